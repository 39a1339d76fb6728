"""Mixing the images of a training batch: a row of `MIXES` for each way, torchvision's.

The shares are drawn from torch's global generator on the CPU, which the loop seeds for each step: they are
the same on any device, with any number of data workers, and after an interruption.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name
from torchvision.transforms import v2

from finetune.spec.augmentations import CutMix, Mix, Mixup

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

MIXES: dict[type[Any], Callable[[Any], Mixing]] = {
    Mixup: lambda spec: v2.MixUp(alpha=spec.alpha),
    CutMix: lambda spec: v2.CutMix(alpha=spec.alpha),
}


def mixing_of(mix: Mix | None, classes: int) -> Mixing:
    """From a batch to a mixed one: each image is mixed with the one before it, the first with the last.

    The function takes normalised images, float (N, 3, H, W), with labels int64 (N,) or float (N, classes). It
    gives the images mixed and each image's shares of the classes, float32 (N, classes). One image alone stays
    as it is. Without `mix` both go through untouched, hard labels too.
    """
    if mix is None:
        return lambda images, labels: (images, labels)
    transform = MIXES[type(mix)](mix)

    def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        shares = F.one_hot(labels, classes) if labels.ndim == 1 else labels
        shares = shares.to(torch.float32)
        return transform(images, shares) if len(images) > 1 else (images, shares)

    return mixed
