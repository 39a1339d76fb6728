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
from finetune.spec.augmentations import Augmentation, Light, NoAugmentation, Standard

View = Callable[[Tensor], Tensor]  # uint8 (3, H, W) → uint8 (3, crop, crop)


# Views are partials of module-level functions, so that data workers can be started by any method.


def _flip(image: Tensor) -> Tensor:
    return F.horizontal_flip(image) if torch.rand(()) < 0.5 else image


def _flipped(view: View, image: Tensor) -> Tensor:
    return _flip(view(image))


def _standard(spec: Standard, preprocessing: Preprocessing) -> View:
    crop = v2.RandomResizedCrop(
        preprocessing.crop,
        scale=(spec.crop_scale[0], spec.crop_scale[1]),
        interpolation=InterpolationMode(preprocessing.interpolation),
        antialias=True,
    )
    return partial(_flipped, crop)


VIEWS: dict[type[Any], Callable[[Any, Preprocessing], View]] = {
    NoAugmentation: lambda spec, preprocessing: preprocessing.centre,
    Light: lambda spec, preprocessing: partial(_flipped, preprocessing.centre),
    Standard: _standard,
}


def training_view(spec: Augmentation, preprocessing: Preprocessing) -> View:
    """What training sees of a decoded image."""
    return VIEWS[type(spec)](spec, preprocessing)
