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

from finetune.feeds import Labelled
from finetune.spec.augmentations import CutMix, Mix, Mixup

Mixing = Callable[[Labelled], Labelled]
Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of images and float rows that go with them

MIXES: dict[type[Any], Callable[[Any], Transform]] = {
    Mixup: lambda spec: v2.MixUp(alpha=spec.alpha),
    CutMix: lambda spec: v2.CutMix(alpha=spec.alpha),
}


def mixing_of(mix: Mix | None, classes: int) -> Mixing:
    """From a batch to a mixed one: each image is mixed with the one before it, the first with the last.

    The function takes normalised images, float (N, 3, H, W), with labels int64 (N,) or float (N, classes). It
    gives the images mixed and each image's shares of the classes, float32 (N, classes). One image alone stays
    as it is. Without `mix` all goes through untouched, hard labels too.

    Where images have weights, each label counts by its share times the weight of the image that it comes
    from: a label that counts next to nothing teaches next to nothing in a mixture, too.
    """
    if mix is None:
        return lambda batch: batch
    transform = MIXES[type(mix)](mix)

    def mixed(batch: Labelled) -> Labelled:
        images, labels, weights = batch
        shares = F.one_hot(labels, classes) if labels.ndim == 1 else labels
        shares = shares.to(torch.float32)
        if len(images) == 1:
            return Labelled(images, shares, weights)
        if weights is None:
            return Labelled(*transform(images, shares))
        return _mixed_by_weight(transform, images, shares, weights)

    return mixed


def _mixed_by_weight(transform: Transform, images: Tensor, shares: Tensor, weights: Tensor) -> Labelled:
    """Mixes shares times weights, and takes them apart again.

    A loss is linear in the shares, which makes it the same as the sum of each label's own weighted loss.
    """
    parts = torch.cat([shares * weights[:, None], weights[:, None]], 1)
    images, parts = transform(images, parts)
    return Labelled(images, parts[:, :-1] / parts[:, -1:], parts[:, -1])
