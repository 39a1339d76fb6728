"""Training views: a row of `VIEWS` for each augmentation. A view is a function of the image and of a seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.drawing import drawing_from
from finetune.data.preprocessing import Preprocessing
from finetune.data.stored import Stored, StoredSize, centre_size, view_size
from finetune.spec.augmentations import (
    Augmentation,
    Cropped,
    Light,
    NoAugmentation,
    RandAugment,
    Standard,
    Trivial,
)

Seeing = Callable[[Tensor, int], Tensor]  # uint8 (3, H, W) and a seed → uint8 (3, crop, crop)
Operation = Callable[[Tensor], Tensor]  # draws from torch's generator

LOWEST, HIGHEST = math.log(3 / 4), math.log(4 / 3)  # of a crop's width by its height
TRIES = 10


@dataclass(frozen=True)
class View:
    """What is seen of an image that is kept at `size`. The same image and seed give the same view."""

    see: Seeing
    size: StoredSize

    def __call__(self, image: Tensor, seed: int = 0) -> Tensor:
        """uint8 (3, H, W) → uint8 (3, crop, crop)."""
        return self.see(image, seed)


# Partials of module-level functions, so that data workers can be started by any method.


def _centre(preprocessing: Preprocessing, image: Tensor, seed: int) -> Tensor:
    return preprocessing.centre(image)


def _light(preprocessing: Preprocessing, image: Tensor, seed: int) -> Tensor:
    centre = preprocessing.centre(image)
    return centre.flip(2) if light_flips(seed) else centre


def light_flips(seed: int) -> bool:
    """Whether the view of `light` with this seed is flipped from left to right."""
    return _half_of_the_time(Random(seed))


def _half_of_the_time(dice: Random) -> bool:
    return dice.random() < 0.5


def _standard(
    preprocessing: Preprocessing, smallest: float, largest: float, image: Tensor, seed: int
) -> Tensor:
    dice = Random(seed)
    height, width = image.shape[1:]
    top, left, rows, columns = draw_crop(dice, height, width, smallest, largest)
    # Colours side by side in memory: torch then resizes and gives them so, with no other way between.
    part = image.permute(1, 2, 0)[top : top + rows, left : left + columns].contiguous().permute(2, 0, 1)
    side, way = preprocessing.crop, InterpolationMode(preprocessing.interpolation)
    view: Tensor = F.resize(part, [side, side], way, antialias=True)
    return view.flip(2) if _half_of_the_time(dice) else view


def draw_crop(
    dice: Random, height: int, width: int, smallest: float, largest: float
) -> tuple[int, int, int, int]:
    """A random part as top, left, height and width: a share of the area, 3:4 to 4:3 (Szegedy et al. 2015).

    The distribution is that of torchvision's RandomResizedCrop, which draws from torch's generator, at a
    price that is felt.
    """
    for _ in range(TRIES):
        area = height * width * dice.uniform(smallest, largest)
        aspect = math.exp(dice.uniform(LOWEST, HIGHEST))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            return dice.randint(0, height - rows), dice.randint(0, width - columns), rows, columns
    rows = min(height, round(width / math.exp(LOWEST)))
    columns = min(width, round(height * math.exp(HIGHEST)))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _after(operation: Operation, see: Seeing, image: Tensor, seed: int) -> Tensor:
    view = see(image, seed)
    with drawing_from(torch.Generator().manual_seed(seed)):
        return operation(view)


def _crop(spec: Cropped, preprocessing: Preprocessing) -> Seeing:
    return partial(_standard, preprocessing, spec.crop_scale[0], spec.crop_scale[1])


def _trivial(spec: Trivial, preprocessing: Preprocessing) -> Seeing:
    operation = v2.TrivialAugmentWide(interpolation=_turning(preprocessing))
    return partial(_after, operation, _crop(spec, preprocessing))


def _randaugment(spec: RandAugment, preprocessing: Preprocessing) -> Seeing:
    operations = v2.RandAugment(
        num_ops=spec.operations,
        magnitude=spec.magnitude,
        num_magnitude_bins=31,  # strengths 0 to 30
        interpolation=_turning(preprocessing),
    )
    return partial(_after, operations, _crop(spec, preprocessing))


def _turning(preprocessing: Preprocessing) -> InterpolationMode:
    """For rotating and shearing, which torchvision does to tensors by these two ways only."""
    nearest = preprocessing.interpolation.startswith("nearest")
    return InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR


VIEWS: dict[type[Any], Callable[[Any, Preprocessing], Seeing]] = {
    NoAugmentation: lambda spec, preprocessing: partial(_centre, preprocessing),
    Light: lambda spec, preprocessing: partial(_light, preprocessing),
    Standard: _crop,
    Trivial: _trivial,
    RandAugment: _randaugment,
}


def training_view(spec: Augmentation, preprocessing: Preprocessing, stored: Stored = "resized") -> View:
    """What training sees of an image."""
    return View(VIEWS[type(spec)](spec, preprocessing), view_size(spec, preprocessing, stored))


def evaluation_view(preprocessing: Preprocessing, stored: Stored = "resized") -> View:
    """What evaluation sees of an image, whatever the seed."""
    return View(partial(_centre, preprocessing), centre_size(preprocessing, stored))
