"""From a file to colours, by Pillow alone: whoever looks at files without training needs no torch."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

# Strangers send these files: formats of photographs and drawings alone, told by content, and none whose
# reader starts programs. A JPEG may hold several pictures (MPO); the first one counts.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
TAKEN = "JPEG, PNG, WebP, GIF and BMP are read"
MOST_PIXELS = 100_000_000
# Pillow's own limit would warn, and refuse only what is twice as large. The one above stands in its place.
Image.MAX_IMAGE_PIXELS = None

# How images of other formats begin: whoever sends one is told what it is.
OTHERS = {
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "BigTIFF",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"8BPS": "a Photoshop file",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\x00\x00\x01\x00": "an icon",
    b"P5": "PGM",
    b"P6": "PPM",
    b"<svg": "SVG",
}
BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
LONGEST_START = 12  # bytes


class Undecodable(Exception):
    """The file is no image that can be read whole."""


def open_upright(source: Path | BinaryIO, side: int | None = None) -> Image.Image:
    """An image in RGB, upright by its EXIF tag; of an animation the first frame. It keeps its format's name.

    With `side` it may come smaller than it is, but no side below so many pixels: where a JPEG can be read so,
    that takes a part of the time.

    Raises:
        Undecodable: the file is empty, truncated, no image of these formats, or it has too many pixels;
            `__cause__` is what Pillow raised.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            _check_size(image.size)
            if side is not None:
                image.draft(None, (side, side))
            ImageOps.exif_transpose(image, in_place=True)
            upright = _rgb(image)
            upright.format = image.format
            return upright
    except Undecodable:
        raise
    except Exception as error:  # a broken file makes Pillow's readers raise whatever they stumble over
        raise Undecodable(str(error) or type(error).__name__) from error


def other_format(start: bytes) -> str | None:
    """What an image of another format is called, by its first bytes."""
    if start[4:8] == b"ftyp":
        return BRANDS.get(start[8:12])
    return next((name for magic, name in OTHERS.items() if start.startswith(magic)), None)


def _check_size(size: tuple[int, int]) -> None:
    """Looks at an image's size, which its header says, before anything is decoded."""
    width, height = size
    if width * height > MOST_PIXELS:
        raise Undecodable(f"it has {width} × {height} pixels; at most {MOST_PIXELS:,} are read")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "P":  # a palette may have transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")
