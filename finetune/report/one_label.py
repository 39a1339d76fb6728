"""The report where an image has one label: what was said of each image, and what that is worth."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from finetune.report.calibration import calibration_of
from finetune.report.class_figures import Counts, accuracy, confusion_matrix
from finetune.report.fields import AnyReport, OneLabelReport
from finetune.report.old_classes import OldAnswers
from finetune.report.predictions import Column, lists, names_of

MOST_MISTAKES = 50
TOP = 5


@dataclass(frozen=True)
class OneLabel:
    """Answers for N images in the order of `files`.

    labels, predictions: int64 (N,), indices of `classes`.
    probabilities: float32 (N, classes).
    loss: the mean cross-entropy.
    old: what both networks say of old classes, where the head kept any.
    """

    shape: ClassVar[type[AnyReport]] = OneLabelReport

    files: list[str]
    classes: tuple[str, ...]
    labels: Tensor
    predictions: Tensor
    probabilities: Tensor
    loss: float
    old: OldAnswers | None = None

    @classmethod
    def of(
        cls,
        files: list[str],
        classes: tuple[str, ...],
        labels: Tensor,
        logits: Tensor,
        loss: float,
        old: OldAnswers | None = None,
    ) -> "OneLabel":
        """From logits (N, classes)."""
        # In float64: among float32 probabilities two classes may be equal whose logits are not.
        probabilities = logits.double().softmax(1).float()
        return cls(files, classes, labels, logits.argmax(1), probabilities, loss, old)

    @property
    def confidences(self) -> Tensor:
        """The probability of each prediction, float32 (N,)."""
        return self.probabilities.gather(1, self.predictions[:, None])[:, 0]

    @property
    def finite(self) -> Tensor:
        """Whether an image's probabilities are numbers, bool (N,)."""
        return self.probabilities.isfinite().all(1)

    def columns(self) -> dict[str, Column]:
        """See `Answers`."""
        found: dict[str, Column] = {
            "file": self.files,
            "label": names_of(self.classes, self.labels),
            "prediction": names_of(self.classes, self.predictions),
            "probability": self.confidences.numpy(),
            "probabilities": lists(self.probabilities),
        }
        return found | (self.old.columns(self.classes, len(self.files)) if self.old else {})

    def about(self) -> dict[str, Any]:
        """See `Answers`."""
        return {}

    def report(self) -> dict[str, Any]:
        """The fields of `OneLabelReport` that say what the answers are worth."""
        counts = Counts.of_single(self.labels, self.predictions, len(self.classes))
        right = self.labels == self.predictions
        sure = bool(self.finite.all())
        return {
            "figures": {
                "accuracy": accuracy(self.labels, self.predictions),
                "top_5_accuracy": self._top_accuracy(),
                "loss": self.loss,
                "macro_f1": counts.macro_f1(),
                "balanced_accuracy": counts.balanced_accuracy(),
            },
            "per_class": counts.rows(self.classes),
            "confusion": confusion_matrix(self.labels, self.predictions, len(self.classes)),
            "calibration": calibration_of(self.confidences, right) if sure else None,
            "mistake_count": int((~right).sum()),
            "mistakes": self._mistakes(),
            "old_classes": self.old.report(self.classes, self.labels, self.predictions) if self.old else None,
        }

    def _top_accuracy(self) -> float | None:
        if len(self.classes) <= TOP:
            return None
        # Of equally probable classes the first ones, as the prediction is the first of them.
        first = self.probabilities.argsort(dim=1, descending=True, stable=True)[:, :TOP]
        return torch.eq(first, self.labels[:, None]).any(1).double().mean().item()

    def _mistakes(self) -> list[dict[str, object]]:
        confidences = self.confidences
        wrong = ((self.labels != self.predictions) & self.finite).nonzero()[:, 0]
        order = confidences[wrong].argsort(descending=True, stable=True)[:MOST_MISTAKES]
        return [
            {
                "file": self.files[i],
                "label": self.classes[self.labels[i]],
                "prediction": self.classes[self.predictions[i]],
                "probability": confidences[i].item(),
                "probability_of_label": self.probabilities[i, self.labels[i]].item(),
            }
            for i in wrong[order].tolist()
        ]
