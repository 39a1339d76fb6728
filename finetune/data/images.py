"""Decoded images: read from the cache where they are in it, decoded and kept where they are not."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import PIL
from PIL import Image, features
from torch import Tensor

from finetune.cache import Cache, key_of
from finetune.data import decoding, opening
from finetune.data.decoding import decode, pixels_of
from finetune.data.facts import Stamp, stamp_of
from finetune.data.fingerprints import of_stat
from finetune.errors import DatasetInvalid
from finetune.packing import pack, unpack

# What the pixels depend on besides the file.
DECODER = (
    PIL.__version__,
    features.version("jpg"),
    hashlib.sha256(Path(decoding.__file__).read_bytes()).hexdigest(),
    hashlib.sha256(Path(opening.__file__).read_bytes()).hexdigest(),
)
_MEANWHILE = "while the job trained on it: a job needs its data to stay as it is; submit it again"
IDLE_SECONDS = 600.0  # a dataset in use is not evicted by another one, nor by its own end


@dataclass(frozen=True)
class Images:
    """A dataset's images by path, whole and as `decode` gives them. Data workers get a copy of this.

    With `stamps` only files are read that are still what they were when these were taken.
    """

    cache: Cache | None
    root: Path
    stamps: Mapping[Path, Stamp] | None = field(default=None, repr=False)

    def __call__(self, path: Path) -> Tensor:
        """See `decode`.

        Raises:
            DatasetInvalid: the file is another than it was.
        """
        try:
            found = path.stat()
        except OSError as error:
            if self.stamps is None:
                return decode(path)  # which says what is wrong with it
            raise self._no_longer(path, "removed") from error
        if self.stamps is not None and stamp_of(found) != self.stamps[path]:
            raise self._no_longer(path, "changed")
        if self.cache is None:
            return decode(path)
        key = self._key(path, found)
        kept = self.cache.get("images", key)
        if kept is not None:
            return unpack(kept)
        image = decode(path)
        self.cache.put("images", key, pack(image), IDLE_SECONDS)
        return image

    def keep(self, path: Path, found: os.stat_result, image: Image.Image) -> None:
        """Keeps what a file was decoded to that was as `found` says."""
        if self.cache is not None:
            self.cache.put("images", self._key(path, found), pack(pixels_of(image)), IDLE_SECONDS)

    def _key(self, path: Path, found: os.stat_result) -> str:
        return key_of(of_stat(path, found, self.root), DECODER)

    def _no_longer(self, path: Path, what: str) -> DatasetInvalid:
        name = path.relative_to(self.root) if path.is_relative_to(self.root) else path.name
        return DatasetInvalid(f"{name} was {what} {_MEANWHILE}", "dataset.path")
