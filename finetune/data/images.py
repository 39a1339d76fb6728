"""Decoded images: mapped from the cache where they are in it, decoded and kept where they are not."""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image, features
from torch import Tensor

from finetune.cache import TOUCH_AFTER, Cache, key_of
from finetune.data import decoding, opening, stored
from finetune.data.decoding import Undecodable, decode, pixels_of
from finetune.data.facts import Keep, Stamp, stamp_of
from finetune.data.fingerprints import of_stat
from finetune.data.listing import Listing
from finetune.data.paths import Irregular, Outside, open_below
from finetune.data.stored import ORIGINAL, Needed, StoredSize
from finetune.errors import DatasetInvalid
from finetune.packing import pack, unpack

# What the pixels depend on besides the file.
DECODER = (
    PIL.__version__,
    features.version("jpg"),
    str(torch.__version__),
    str(torchvision.__version__),
    torch.backends.cpu.get_cpu_capability(),
    *(
        hashlib.sha256(Path(source).read_bytes()).hexdigest()
        for source in (decoding.__file__, opening.__file__, stored.__file__)
    ),
)
_MEANWHILE = "while the job trained on it: a job needs its data to stay as it is; submit it again"
IDLE_SECONDS = 600.0  # a dataset in use is not evicted by another one, nor by its own end
MOST_MAPPED = 8192  # images; a process may have 65,530 mappings
HELD_BYTES = 2**28  # of images that are in no cache: fewer than a loader in processes of its own takes


@dataclass(frozen=True)
class Images:
    """A dataset's images by path and size.

    With `stamps` only files are read that are still what they were when these were taken. `sizes` are all
    that the job needs: one that has all pixels stands for the file.
    """

    cache: Cache | None
    root: Path
    stamps: Mapping[Path, Stamp] | None = field(default=None, repr=False)
    sizes: frozenset[StoredSize] = frozenset()

    def at(self, size: StoredSize = ORIGINAL, processes: int = 1) -> "Reader":
        """Reads images at a size, in so many processes at once."""
        return Reader(self, size, HELD_BYTES // processes)

    def look(self, path: Path) -> os.stat_result:
        """What the file is now.

        Raises:
            DatasetInvalid: another than it was.
            OSError: it is not there, and was not looked at before.
        """
        try:
            found = path.stat()
        except OSError as error:
            if self.stamps is None:
                raise
            raise self._no_longer(path, "removed") from error
        if self.stamps is not None and stamp_of(found) != self.stamps[path]:
            raise self._no_longer(path, "changed")
        return found

    def open(self, path: Path, found: os.stat_result, size: StoredSize) -> tuple[Tensor, str | None]:
        """An image, and the key of the entry that it is mapped from, if it is."""
        if self.cache is None:
            return size.fit(self.decode(path)), None
        key = self._key(path, found, size)
        image = self._mapped(key)
        if image is not None:
            return image, key
        for other in self.sizes - {size}:
            key_of_other = self._key(path, found, other)
            whole = self._mapped(key_of_other)
            if whole is not None and other.surely_whole(*whole.shape[1:]):
                image = size.fit(whole)
                if image is whole:
                    return image, key_of_other
                return self._put(key, image)
        return self._put(key, size.fit(self.decode(path)))

    def decode(self, path: Path) -> Tensor:
        """Decodes a file, and sees to it that the file that is open is the one that was looked at.

        Raises:
            DatasetInvalid: it is another one.
            Undecodable: it cannot be read as an image.
        """
        try:
            with open_below(path, self.root) as file:
                if self.stamps is not None and stamp_of(os.fstat(file.fileno())) != self.stamps[path]:
                    raise self._no_longer(path, "changed")
                return decode(file)
        except (Outside, Irregular) as error:
            raise self._no_longer(path, "replaced") from error
        except OSError as error:
            raise Undecodable(error.strerror or str(error)) from error

    def keeping(self, needed: Needed, listing: Listing) -> Keep:
        """What keeps a listing's images, decoded for another reason, at the sizes that they are needed at."""
        by_path = needed.by_path(listing)

        def keep(path: Path, found: os.stat_result, image: Image.Image) -> None:
            if self.cache is None:
                return
            pixels, sizes = pixels_of(image), by_path[path]
            whole = [size for size in sizes if size.surely_whole(*pixels.shape[1:])]
            # One for all that the file fills, and the others too: later one thread would make them of it.
            for size in [*whole[:1], *(sizes - set(whole))]:
                key = self._key(path, found, size)
                self.cache.put("images", key, pack(size.fit(pixels)), IDLE_SECONDS)

        return keep

    def _mapped(self, key: str) -> Tensor | None:
        content = self.cache.map("images", key) if self.cache else None
        return None if content is None else unpack(content)

    def _put(self, key: str, image: Tensor) -> tuple[Tensor, str | None]:
        assert self.cache is not None
        self.cache.put("images", key, pack(image), IDLE_SECONDS)
        kept = self._mapped(key)
        return (image, None) if kept is None else (kept, key)

    def _key(self, path: Path, found: os.stat_result, size: StoredSize) -> str:
        return key_of(of_stat(path, found, self.root), size, DECODER)

    def _no_longer(self, path: Path, what: str) -> DatasetInvalid:
        name = path.relative_to(self.root) if path.is_relative_to(self.root) else path.name
        return DatasetInvalid(f"{name} was {what} {_MEANWHILE}", "dataset.path")


@dataclass
class _AtHand:
    stamp: Stamp
    image: Tensor
    key: str | None
    touched: float


class Reader:
    """Reads images at a size, and has at hand what it has read: mapped, else in memory up to a bound.

    What it gives must not be written to. Data workers get one each, with nothing at hand.
    """

    def __init__(self, images: Images, size: StoredSize, held_bytes: int) -> None:
        self.size = size
        self._images, self._held_bytes = images, held_bytes
        self._at_hand: dict[Path, _AtHand] = {}
        self._room, self._mappings = held_bytes, MOST_MAPPED

    def __reduce__(self) -> tuple[object, ...]:
        return Reader, (self._images, self.size, self._held_bytes)

    def __call__(self, path: Path) -> Tensor:
        """An image as uint8 (3, H, W).

        Raises:
            DatasetInvalid: the file is another than it was.
            Undecodable: see `decode`.
        """
        try:
            found = self._images.look(path)
        except OSError:
            return self._images.decode(path)  # which says what is wrong with it
        one, stamp = self._at_hand.get(path), stamp_of(found)
        if one is None or one.stamp != stamp:
            image, key = self._images.open(path, found, self.size)
            one = _AtHand(stamp, image, key, time.monotonic())
            self._hold(path, one)
        elif one.key is not None and time.monotonic() - one.touched > TOUCH_AFTER:
            one.touched = time.monotonic()
            if self._images.cache is not None:
                self._images.cache.touch("images", one.key)
        return one.image

    def _hold(self, path: Path, one: _AtHand) -> None:
        """Keeps the first ones that there is room for: each is needed once an epoch, in any order."""
        self._at_hand.pop(path, None)  # a changed file is rare: its room is not given to another
        if one.key is not None and self._mappings:
            self._mappings -= 1
        elif one.key is None and one.image.nbytes <= self._room:
            self._room -= one.image.nbytes
        else:
            return
        self._at_hand[path] = one
