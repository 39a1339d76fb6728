"""Decoded images: read from the cache where they are in it, decoded and kept where they are not."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import Image, features
from torch import Tensor

from finetune.cache import Cache, key_of
from finetune.data import decoding, opening
from finetune.data.decoding import decode, pixels_of
from finetune.data.fingerprints import of_file, of_stat
from finetune.packing import pack, unpack

# What the pixels depend on besides the file.
DECODER = (
    PIL.__version__,
    features.version("jpg"),
    hashlib.sha256(Path(decoding.__file__).read_bytes()).hexdigest(),
    hashlib.sha256(Path(opening.__file__).read_bytes()).hexdigest(),
)
IDLE_SECONDS = 600.0  # a dataset in use is not evicted by another one, nor by its own end


@dataclass(frozen=True)
class Images:
    """A dataset's images by path, whole and as `decode` gives them. Data workers get a copy of this."""

    cache: Cache | None
    root: Path

    def __call__(self, path: Path) -> Tensor:
        """See `decode`."""
        if self.cache is None:
            return decode(path)
        try:
            key = self._key(path)
        except OSError:
            return decode(path)  # which says what is wrong with it
        kept = self.cache.get("images", key)
        if kept is not None:
            return unpack(kept)
        image = decode(path)
        self.cache.put("images", key, pack(image), IDLE_SECONDS)
        return image

    def keep(self, path: Path, found: os.stat_result, image: Image.Image) -> None:
        """Keeps what a file was decoded to that was as `found` says."""
        if self.cache is not None:
            key = key_of(of_stat(path, found, self.root), DECODER)
            self.cache.put("images", key, pack(pixels_of(image)), IDLE_SECONDS)

    def _key(self, path: Path) -> str:
        return key_of(of_file(path, self.root), DECODER)
