"""Objectives: a row of `OBJECTIVES` for each, from its spec to a loss of logits and labels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.spec.objectives import CrossEntropy

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (N, classes) and labels (N,) → a scalar: the mean


def _cross_entropy(spec: CrossEntropy, class_counts: Sequence[int], device: torch.device) -> Loss:
    weight = balanced_weights(class_counts).to(device) if spec.class_weights == "balanced" else None

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=weight, label_smoothing=spec.label_smoothing)

    return loss


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """Images / (classes × images of the class), float32 (classes,): scikit-learn's "balanced"."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(class_counts) * counts)


OBJECTIVES: dict[type[Any], Callable[[Any, Sequence[int], torch.device], Loss]] = {
    CrossEntropy: _cross_entropy,
}


def build(spec: Any, class_counts: Sequence[int], device: torch.device) -> Loss:
    """The training loss for a dataset with these numbers of images by class."""
    return OBJECTIVES[type(spec)](spec, class_counts, device)
