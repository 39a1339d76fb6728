"""What an image looks like in a few bytes: enough to find its copies, and to see that little is on it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import imagehash
import numpy as np
import scipy.fftpack  # noqa: F401  # imagehash loads it when first asked, and then a job waits for it
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 8  # bits
SMALLEST = 32  # pixels of an image's shorter side; smaller ones have no hash that means anything
HASHED = 4 * HASH_SIDE  # pixels of the image that the hash looks at
REDUCED = 3 * HASHED  # pixels of the shorter side, above which an image is made smaller the quick way first
PLAIN = 1.0  # bits of entropy, below which there is hardly anything on an image
THUMBNAIL = 8  # pixels

# Measured on 397 photographs of ants and bees, and on copies of each: JPEG of qualities 40 to 95, PNG, WebP,
# half and one and a half times the size. Their hashes differ in up to 4 of 64 bits, in up to 6 where every
# other pixel was dropped before a JPEG of quality 40; their thumbnails by up to 4.6 of 256 levels (root mean
# square), 5.5 there. Different photographs differ in 14 bits or more, and by 17 levels. Hashes of drawings
# are often as near as those of copies; their thumbnails differ by 6.5 levels or more, but for about one pair
# in a million that looks the same.
MOST_BITS = 6
MOST_LEVELS = 5.0

MOST_ALIKE = 8  # an image that is near to more than so many others shows a scene that they all share
MOST_SHARING = 32  # as many images may share two bytes of their hashes; more of them are no sign of a copy
CHUNK = 4096

Indices = NDArray[np.intp]
Bytes = NDArray[np.uint8]  # a row for each image


@dataclass(frozen=True)
class Look:
    """An image's entropy in bits over its colours (16 levels each), its perceptual hash and its thumbnail.

    The hash (8 bytes) is a pHash (Zauner 2010), the thumbnail 8 × 8 pixels in RGB (192 bytes).
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
    factor = max(1, min(image.size) // REDUCED)
    reduced, whole = image.reduce(factor), (0.0, 0.0, image.width / factor, image.height / factor)
    grey = reduced.convert("L").resize((HASHED, HASHED), Image.Resampling.LANCZOS, whole)
    bits = imagehash.phash(grey, HASH_SIDE).hash
    thumbnail = reduced.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, whole)
    return Look(entropy, np.packbits(bits).tobytes(), thumbnail.tobytes())


def _entropy(image: Image.Image) -> float:
    sample = np.asarray(image.resize((64, 64), Image.Resampling.NEAREST)) >> 4
    counts = np.bincount((sample @ np.array([256, 16, 1])).ravel())
    shares = counts[counts > 0] / 64**2
    return float(-(shares * np.log2(shares)).sum())


def near_pairs(ours: Sequence[Look], theirs: Sequence[Look]) -> list[tuple[int, int]]:
    """Which of ours are near copies of which of theirs, by index, ascending. All of them have hashes.

    Six bits that differ leave two of the eight bytes as they are: only images that share two are compared.
    """
    if not ours or not theirs:
        return []
    left, right = (_table(look.hash for look in some) for some in (ours, theirs))
    small, other = (_table(look.thumbnail for look in some) for some in (ours, theirs))
    codes = [np.zeros(0, np.intp)]
    for i, j in _candidates(left, right):
        near = np.bitwise_count(left[i] ^ right[j]).sum(1) <= MOST_BITS
        i, j = i[near], j[near]
        levels = small[i].astype(np.float32) - other[j]
        same = (levels**2).mean(1) <= MOST_LEVELS**2
        codes.append(i[same] * len(theirs) + j[same])
    i, j = np.divmod(np.unique(np.concatenate(codes)), len(theirs))
    told = (np.bincount(i)[i] <= MOST_ALIKE) & (np.bincount(j)[j] <= MOST_ALIKE)
    return list(zip(i[told].tolist(), j[told].tolist(), strict=True))


def _table(rows: Iterable[bytes]) -> Bytes:
    rows = list(rows)
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def _candidates(ours: Bytes, theirs: Bytes) -> Iterator[tuple[Indices, Indices]]:
    """Pairs that share two bytes, some of them several times."""
    for first, second in combinations(range(ours.shape[1]), 2):
        own, other = (some[:, first] * np.uint16(256) + some[:, second] for some in (ours, theirs))
        order = np.argsort(other, kind="stable")
        values = other[order]
        for start in range(0, len(own), CHUNK):
            part = own[start : start + CHUNK]
            begin = np.searchsorted(values, part, "left")
            counts = np.searchsorted(values, part, "right") - begin
            counts[counts > MOST_SHARING] = 0
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            yield np.repeat(np.arange(len(part)), counts) + start, order[np.repeat(begin, counts) + within]
