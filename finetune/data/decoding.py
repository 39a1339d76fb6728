"""From a file to pixels."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name


class Undecodable(Exception):
    """The file is no image that can be read whole."""


def decode(path: Path) -> Tensor:
    """An image as uint8 (3, H, W), upright by its EXIF tag; of an animation the first frame.

    torchvision's decoders first, as they are several times as fast; Pillow for what they do not read.

    Raises:
        Undecodable: the file is empty, truncated, or no image.
    """
    try:
        image = decode_image(os.fspath(path), mode=ImageReadMode.RGB, apply_exif_orientation=True)
    except (RuntimeError, ValueError):
        return _decode_with_pillow(path)
    if image.dtype != torch.uint8:
        image = F.to_dtype(image, torch.uint8, scale=True)
    return image[0] if image.ndim == 4 else image


def _decode_with_pillow(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            return F.pil_to_tensor(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Undecodable(str(error) or type(error).__name__) from error


def undecodable(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Decodes every file once; the ones that cannot be, each with the reason."""

    def reason(path: Path) -> str | None:
        try:
            decode(path)
        except Undecodable as error:
            return str(error).replace(os.fspath(path), path.name)
        return None

    paths = list(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [(path, why) for path, why in zip(paths, pool.map(reason, paths), strict=True) if why]
