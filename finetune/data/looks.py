"""What an image looks like in a few bytes: enough to find its copies, and to see that little is on it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 16  # bits; the hash looks at the image at four times that, in pixels
SMALLEST = 32  # pixels of an image's shorter side; smaller ones have no hash that means anything
PLAIN = 1.0  # bits of entropy, below which there is hardly anything on an image
THUMBNAIL = 8  # pixels

# Bits of low frequencies, which copies keep, come first.
_FREQUENCY = np.maximum(*np.indices((HASH_SIDE, HASH_SIDE))).ravel()
_ORDER = np.argsort(_FREQUENCY, kind="stable")

# Measured on 397 photographs of ants and bees and copies of each: JPEG of qualities 40 to 95, PNG, WebP, half
# and one and a half times the size. Copies differ from their original in up to 8 of the 256 bits (in 14 as
# WebP of quality 60, in 22 where every other pixel was dropped before a JPEG of quality 40), photographs from
# each other in 90 or more. Hashes of drawings, and of what a camera sees that stands still, may be as near as
# those of copies. Their thumbnails differ: copies by up to 12 of 256 levels, drawn shapes of another place or
# colour by 15 or more.
MOST_BITS = 24
MOST_LEVELS = 12

MOST_ALIKE = 8  # an image that is near to more than so many others shows a scene that they all share
MOST_SHARING = 32  # as many images may share 16 bits of their hashes; more of them are no sign of a copy
CHUNK = 4096

Indices = NDArray[np.intp]
Number = TypeVar("Number", np.uint8, np.uint16)


@dataclass(frozen=True)
class Look:
    """An image's entropy in bits over its colours (16 levels each), its perceptual hash and its thumbnail.

    The hash (32 bytes) is a pHash (Zauner 2010) of 256 bits, the thumbnail 8 × 8 pixels in RGB (192 bytes).
    Both are empty for an image that is too small or too plain to be told from others by them.
    """

    entropy: float = 0.0
    hash: bytes = b""
    thumbnail: bytes = b""


def look_at(image: Image.Image) -> Look:
    """The look of an image in RGB."""
    entropy = _entropy(image)
    if min(image.size) < SMALLEST or entropy < PLAIN:
        return Look(entropy)
    bits = imagehash.phash(image, HASH_SIDE).hash.ravel()[_ORDER]
    thumbnail = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Look(entropy, np.packbits(bits).tobytes(), thumbnail.tobytes())


def _entropy(image: Image.Image) -> float:
    sixteen_levels = [level & 0xF0 for level in range(256)]
    sample = image.resize((64, 64), Image.Resampling.NEAREST).point(sixteen_levels * 3)
    shares = [count / 64**2 for count, _ in sample.getcolors(64**2) or []]
    return -sum(share * math.log2(share) for share in shares)


def near_pairs(ours: Sequence[Look], theirs: Sequence[Look]) -> list[tuple[int, int]]:
    """Which of ours are near copies of which of theirs, by index, ascending. All of them have hashes.

    Candidates share one of their hashes' sixteen parts, so that nothing is compared with everything.
    """
    if not ours or not theirs:
        return []
    left, right = (_table([look.hash for look in some], np.uint16) for some in (ours, theirs))
    small, other = (_table([look.thumbnail for look in some], np.uint8) for some in (ours, theirs))
    codes = [np.zeros(0, np.intp)]
    for i, j in _candidates(left, right):
        levels = np.abs(small[i].astype(np.int16) - other[j]).max(1, initial=0)
        near = (np.bitwise_count(left[i] ^ right[j]).sum(1) <= MOST_BITS) & (levels <= MOST_LEVELS)
        codes.append(i[near] * len(theirs) + j[near])
    i, j = np.divmod(np.unique(np.concatenate(codes)), len(theirs))
    told = (np.bincount(i)[i] <= MOST_ALIKE) & (np.bincount(j)[j] <= MOST_ALIKE)
    return list(zip(i[told].tolist(), j[told].tolist(), strict=True))


def _table(rows: Sequence[bytes], kind: type[Number]) -> NDArray[Number]:
    return np.frombuffer(b"".join(rows), kind).reshape(len(rows), -1)


def _candidates(ours: NDArray[np.uint16], theirs: NDArray[np.uint16]) -> Iterator[tuple[Indices, Indices]]:
    """Pairs that share a part, some of them several times."""
    for part in range(ours.shape[1]):
        order = np.argsort(theirs[:, part], kind="stable")
        values = theirs[order, part]
        for start in range(0, len(ours), CHUNK):
            own = ours[start : start + CHUNK, part]
            first = np.searchsorted(values, own, "left")
            counts = np.searchsorted(values, own, "right") - first
            counts[counts > MOST_SHARING] = 0
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            yield np.repeat(np.arange(len(own)), counts) + start, order[np.repeat(first, counts) + within]
