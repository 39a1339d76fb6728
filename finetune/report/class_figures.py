"""Precision, recall and F1 of classes, from counts."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

MOST_CLASSES = 1000  # of a confusion matrix: its size grows with their square


class Counts:
    """Of each class how often it was found, how often given, and how many images are of it; int64 (C,)."""

    def __init__(self, found: Tensor, given: Tensor, support: Tensor) -> None:
        self.found, self.given, self.support = found, given, support
        exact = found.double()
        # Nothing to divide by: nothing was found either, and 0 / 1 is 0, as scikit-learn has it.
        self.precision = exact / given.clamp(min=1)
        self.recall = exact / support.clamp(min=1)
        self.f1 = 2 * exact / (given + support).clamp(min=1)

    @classmethod
    def of_single(cls, labels: Tensor, predictions: Tensor, classes: int) -> "Counts":
        """From one label and one prediction an image, int64 (N,)."""
        right = labels[labels == predictions]
        return cls(*(values.bincount(minlength=classes) for values in (right, predictions, labels)))

    @classmethod
    def of_several(cls, labels: Tensor, given: Tensor) -> "Counts":
        """From any number of labels an image, bool (N, C)."""
        return cls((labels & given).sum(0), given.sum(0), labels.sum(0))

    def macro_f1(self) -> float:
        """The mean over the classes that are a label or a prediction."""
        return _mean(self.f1[(self.given + self.support) > 0])

    def balanced_accuracy(self) -> float:
        """The mean recall over the classes that are a label."""
        return _mean(self.recall[self.support > 0])

    def rows(self, classes: Sequence[str]) -> list[dict[str, object]]:
        """A row for each class."""
        columns = (self.precision, self.recall, self.f1, self.support)
        values = zip(classes, *(column.tolist() for column in columns), strict=True)
        return [
            dict(zip(("name", "precision", "recall", "f1", "support"), row, strict=True)) for row in values
        ]


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> list[list[int]] | None:
    """Rows are labels, columns predictions; None where there are too many classes."""
    if classes > MOST_CLASSES:
        return None
    found: list[list[int]] = multiclass_confusion_matrix(predictions, labels, classes).tolist()
    return found


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else 0.0


def accuracy(labels: Tensor, predictions: Tensor) -> float:
    """The share of equal ones."""
    return torch.eq(labels, predictions).double().mean().item()
