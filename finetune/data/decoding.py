"""From a file to pixels."""

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
