"""Training views: a row of `VIEWS` for each augmentation. Each draws from torch's global generator.

The loader seeds that generator for every sample: a view depends on (seed, stage, epoch, sample index) alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F  # noqa: N812  # the field's usual name

from finetune.data.preprocessing import Preprocessing
from finetune.spec.augmentations import (
    Augmentation,
    Cropped,
    Light,
    NoAugmentation,
    RandAugment,
    Standard,
    Trivial,
)

View = Callable[[Tensor], Tensor]  # uint8 (3, H, W) → uint8 (3, crop, crop)


# Views are partials of module-level functions, so that data workers can be started by any method.


def _flip(image: Tensor) -> Tensor:
    return F.horizontal_flip(image) if torch.rand(()) < 0.5 else image


def light_flips(seed: int) -> bool:
    """Whether `light` flips the view that is drawn from this seed."""
    return bool(torch.rand((), generator=torch.Generator().manual_seed(seed)) < 0.5)


def _flipped(view: View, image: Tensor) -> Tensor:
    return _flip(view(image))


def _after(operation: View, view: View, image: Tensor) -> Tensor:
    return operation(view(image))


def _standard(spec: Cropped, preprocessing: Preprocessing) -> View:
    crop = v2.RandomResizedCrop(
        preprocessing.crop,
        scale=(spec.crop_scale[0], spec.crop_scale[1]),
        interpolation=InterpolationMode(preprocessing.interpolation),
        antialias=True,
    )
    return partial(_flipped, crop)


def _trivial(spec: Trivial, preprocessing: Preprocessing) -> View:
    operation = v2.TrivialAugmentWide(interpolation=_turning(preprocessing))
    return partial(_after, operation, _standard(spec, preprocessing))


def _randaugment(spec: RandAugment, preprocessing: Preprocessing) -> View:
    operations = v2.RandAugment(
        num_ops=spec.operations,
        magnitude=spec.magnitude,
        num_magnitude_bins=31,  # strengths 0 to 30
        interpolation=_turning(preprocessing),
    )
    return partial(_after, operations, _standard(spec, preprocessing))


def _turning(preprocessing: Preprocessing) -> InterpolationMode:
    """For rotating and shearing, which torchvision does to tensors by these two ways only."""
    nearest = preprocessing.interpolation.startswith("nearest")
    return InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR


VIEWS: dict[type[Any], Callable[[Any, Preprocessing], View]] = {
    NoAugmentation: lambda spec, preprocessing: preprocessing.centre,
    Light: lambda spec, preprocessing: partial(_flipped, preprocessing.centre),
    Standard: _standard,
    Trivial: _trivial,
    RandAugment: _randaugment,
}


def training_view(spec: Augmentation, preprocessing: Preprocessing) -> View:
    """What training sees of a decoded image."""
    return VIEWS[type(spec)](spec, preprocessing)
