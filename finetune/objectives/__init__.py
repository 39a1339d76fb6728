"""Objectives: what a network's outputs are held against, in training and in validation.

A row of `OBJECTIVES` for each, from its spec to what the loop works with.
"""

from collections.abc import Callable
from typing import Any

import torch

from finetune.data.dataset import Dataset
from finetune.objectives.base import Evaluation, Objective, Tally
from finetune.objectives.classification import Classification
from finetune.objectives.multilabel import MultiLabel
from finetune.spec.objectives import BinaryCrossEntropy, CrossEntropy, Focal, Triplet

__all__ = ["Evaluation", "Objective", "Tally", "build"]


def _triplet(spec: Triplet, dataset: Dataset, device: torch.device) -> Objective:
    from finetune.objectives.triplet import Embedding  # its libraries take a second to load

    return Embedding(spec, device)


OBJECTIVES: dict[type[Any], Callable[[Any, Dataset, torch.device], Objective]] = {
    CrossEntropy: Classification.by_cross_entropy,
    Focal: Classification.by_focal_loss,
    BinaryCrossEntropy: MultiLabel.by_binary_cross_entropy,
    Triplet: _triplet,
}


def build(spec: Any, dataset: Dataset, device: torch.device) -> Objective:
    """The objective of a run on this dataset."""
    return OBJECTIVES[type(spec)](spec, dataset, device)
