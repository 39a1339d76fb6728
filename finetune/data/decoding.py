"""From a file to pixels."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.opening import Undecodable as Undecodable
from finetune.data.opening import open_upright


def decode(source: Path | BinaryIO) -> Tensor:
    """An image as uint8 (3, H, W), upright by its EXIF tag; of an animation the first frame.

    Raises:
        Undecodable: see `open_upright`.
    """
    return pixels_of(open_upright(source))


def pixels_of(image: Image.Image) -> Tensor:
    """An image in RGB as uint8 (3, H, W)."""
    pixels: Tensor = F.pil_to_tensor(image)
    return pixels
