"""From a file to colours, by Pillow alone: whoever looks at files without training needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

Image.init()
FORMATS = tuple(kind for kind in Image.ID if kind != "EPS")  # whose reader starts Ghostscript


class Undecodable(Exception):
    """The file is no image that can be read whole."""


@dataclass(frozen=True)
class Limits:
    """What is decoded at all: so many pixels (None is no limit), and these formats by Pillow's names."""

    pixels: int | None = None
    formats: tuple[str, ...] = FORMATS

    def check(self, size: tuple[int, int]) -> None:
        """Looks at an image's size, which its header says.

        Raises:
            Undecodable: it is too large.
        """
        width, height = size
        if self.pixels is not None and width * height > self.pixels:
            raise Undecodable(f"it has {width} × {height} pixels; at most {self.pixels:,} are read")


UNLIMITED = Limits()


def open_upright(source: Path | BinaryIO, limits: Limits = UNLIMITED) -> Image.Image:
    """An image in RGB, upright by its EXIF tag; of an animation the first frame. It keeps its format's name.

    Raises:
        Undecodable: the file is empty, truncated, no image, or above the limits; `__cause__` is what Pillow
            raised.
    """
    try:
        with Image.open(source, formats=limits.formats) as image:
            limits.check(image.size)
            ImageOps.exif_transpose(image, in_place=True)
            upright = _rgb(image)
            upright.format = image.format
            return upright
    except Undecodable:
        raise
    except Exception as error:  # a broken file makes Pillow's readers raise whatever they stumble over
        raise Undecodable(str(error) or type(error).__name__) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "P":  # a palette may have transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")
