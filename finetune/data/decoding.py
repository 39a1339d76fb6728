"""From a file to pixels."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.opening import UNLIMITED, Limits, open_upright
from finetune.data.opening import Undecodable as Undecodable


def decode(source: Path | BinaryIO, limits: Limits = UNLIMITED) -> Tensor:
    """An image as uint8 (3, H, W), upright by its EXIF tag; of an animation the first frame.

    Raises:
        Undecodable: the file is empty, truncated, no image, or above the limits.
    """
    return pixels_of(open_upright(source, limits))


def pixels_of(image: Image.Image) -> Tensor:
    """An image in RGB as uint8 (3, H, W)."""
    pixels: Tensor = F.pil_to_tensor(image)
    return pixels


def undecodable(paths: Iterable[Path], read: Callable[[Path], Tensor] = decode) -> list[tuple[Path, str]]:
    """Decodes every file once; the ones that cannot be, each with the reason."""

    def reason(path: Path) -> str | None:
        try:
            read(path)
        except Undecodable as error:
            return str(error).replace(os.fspath(path), path.name)
        return None

    paths = list(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [(path, why) for path, why in zip(paths, pool.map(reason, paths), strict=True) if why]
