"""From a file to pixels."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name


class Undecodable(Exception):
    """The file is no image that can be read whole."""


def decode(path: Path) -> Tensor:
    """An image as uint8 (3, H, W), upright by its EXIF tag; of an animation the first frame.

    Raises:
        Undecodable: the file is empty, truncated, or no image.
    """
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            pixels: Tensor = F.pil_to_tensor(_rgb(image))
            return pixels
    except Exception as error:  # a broken file makes Pillow's readers raise whatever they stumble over
        raise Undecodable(str(error) or type(error).__name__) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "P":  # a palette may have transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


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
