"""The report where an image has any number of labels: each class by itself, at its stored threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics.functional.classification import multilabel_confusion_matrix

from finetune.objectives.multilabel import average_precisions, probabilities_of
from finetune.report.calibration import calibration_of
from finetune.report.class_figures import Counts
from finetune.report.fields import AnyReport, SeveralLabelsReport
from finetune.report.predictions import Column, lists

MOST_MISTAKES = 50


@dataclass(frozen=True)
class SeveralLabels:
    """Answers for N images in the order of `files`.

    labels: bool (N, classes).
    probabilities: float32 (N, classes).
    thresholds: float32 (classes,).
    loss: the mean binary cross-entropy.
    """

    shape: ClassVar[type[AnyReport]] = SeveralLabelsReport

    files: list[str]
    classes: tuple[str, ...]
    labels: Tensor
    probabilities: Tensor
    thresholds: Tensor
    loss: float

    @classmethod
    def of(
        cls,
        files: list[str],
        classes: tuple[str, ...],
        labels: Tensor,
        logits: Tensor,
        thresholds: Mapping[str, float],
        loss: float,
    ) -> "SeveralLabels":
        """From logits (N, classes) and targets of 0 and 1, float (N, classes)."""
        edges = torch.tensor([thresholds[name] for name in classes])
        return cls(files, classes, labels > 0, probabilities_of(logits), edges, loss)

    @property
    def given(self) -> Tensor:
        """Which labels are given, bool (N, classes)."""
        return self.probabilities >= self.thresholds

    @property
    def finite(self) -> Tensor:
        """Whether an image's probabilities are numbers, bool (N,)."""
        return self.probabilities.isfinite().all(1)

    def columns(self) -> dict[str, Column]:
        """See `Answers`."""
        return {
            "file": self.files,
            "labels": self._names(self.labels),
            "predictions": self._names(self.given),
            "probabilities": lists(self.probabilities),
        }

    def _names(self, there: Tensor) -> list[list[str]]:
        return [[name for name, yes in zip(self.classes, row, strict=True) if yes] for row in there.tolist()]

    def about(self) -> dict[str, Any]:
        """See `Answers`."""
        return {"thresholds": dict(zip(self.classes, self.thresholds.tolist(), strict=True))}

    def report(self) -> dict[str, Any]:
        """The fields of `SeveralLabelsReport` that say what the answers are worth."""
        labels, given = self.labels, self.given
        counts, wrong = Counts.of_several(labels, given), labels != given
        there, sure = counts.support > 0, bool(self.finite.all())
        precisions = self._average_precisions() if sure else torch.full(there.shape, nan)
        micro = 2 * counts.found.sum().double() / (counts.given.sum() + counts.support.sum()).clamp(min=1)
        more = zip(self.thresholds.tolist(), precisions.tolist(), strict=True)
        return {
            "figures": {
                "map": precisions[there].mean().item(),
                "macro_f1": counts.f1[there].mean().item() if there.any() else 0.0,
                "micro_f1": micro.item(),
                "loss": self.loss,
            },
            "per_class": [
                row | {"threshold": threshold, "average_precision": precision}
                for row, (threshold, precision) in zip(counts.rows(self.classes), more, strict=True)
            ],
            "confusion": multilabel_confusion_matrix(given.long(), labels.long(), len(self.classes)).tolist(),
            "calibration": calibration_of(self.probabilities.flatten(), labels.flatten()) if sure else None,
            "mistake_count": int(wrong.sum()),
            "mistakes": self._mistakes(wrong & self.finite[:, None]),
            "old_classes": None,
        }

    def _average_precisions(self) -> Tensor:
        """Of each class, float64 (classes,); NaN where no image is of it."""
        found, there = torch.full((len(self.classes),), nan, dtype=torch.float64), self.labels.any(0)
        if there.any():
            found[there] = average_precisions(self.probabilities[:, there], self.labels[:, there])
        return found

    def _mistakes(self, wrong: Tensor) -> list[dict[str, object]]:
        given = self.given
        sureness = torch.where(given, self.probabilities, 1 - self.probabilities)
        pairs = wrong.nonzero()
        order = sureness[wrong].argsort(descending=True, stable=True)[:MOST_MISTAKES]
        return [
            {
                "file": self.files[image],
                "label": self.classes[label],
                "mistake": "given" if given[image, label] else "missed",
                "probability": self.probabilities[image, label].item(),
            }
            for image, label in pairs[order].tolist()
        ]
