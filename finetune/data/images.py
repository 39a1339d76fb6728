"""Decoded images: read from the cache where they are in it, decoded and kept where they are not."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import features
from torch import Tensor

from finetune.cache import Cache, key_of
from finetune.data import decoding, opening
from finetune.data.decoding import decode
from finetune.data.fingerprints import of_file, of_files
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

    def unknown(self, paths: Iterable[Path]) -> list[Path]:
        """Those of which nobody knows yet that they can be decoded."""
        paths = list(paths)
        if self.cache is None:
            return paths
        try:
            if self.cache.holds("checks", self._set_key(paths)):
                return []
            return [path for path in paths if not self.cache.holds("images", self._key(path))]
        except OSError:
            return paths

    def know(self, paths: Iterable[Path]) -> None:
        """Keeps that all of these can be decoded, for when the cache has no room for them."""
        if self.cache is not None:
            try:
                key = self._set_key(paths)
            except OSError:  # one was removed meanwhile
                return
            self.cache.put("checks", key, [])

    def _key(self, path: Path) -> str:
        return key_of(of_file(path, self.root), DECODER)

    def _set_key(self, paths: Iterable[Path]) -> str:
        return key_of(of_files(paths, self.root), DECODER)
