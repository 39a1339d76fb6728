"""The report of an embedding: the nearest other image's class is what an image would be taken for."""

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from finetune.objectives.embeddings import ROWS, retrieval
from finetune.report.class_figures import Counts, accuracy, confusion_matrix
from finetune.report.fields import AnyReport, EmbeddingReport
from finetune.report.predictions import Column, lists, names_of

MOST_MISTAKES = 50


@dataclass(frozen=True)
class Embedded:
    """Embeddings of N images in the order of `files`, N at least 2.

    labels: int64 (N,), indices of `classes`.
    points: float32 (N, size); with `normalize` of the objective they lie on the unit sphere.
    neighbours: of each image the index of the nearest other one, int64 (N,).
    distances: to it, float64 (N,).
    margin: the objective's.
    """

    shape: ClassVar[type[AnyReport]] = EmbeddingReport

    files: list[str]
    classes: tuple[str, ...]
    labels: Tensor
    points: Tensor
    neighbours: Tensor
    distances: Tensor
    margin: float

    @classmethod
    def of(
        cls, files: list[str], classes: tuple[str, ...], labels: Tensor, points: Tensor, margin: float
    ) -> "Embedded":
        """From embeddings, float32 (N, size)."""
        return cls(files, classes, labels, points, *nearest(points.double(), labels), margin)

    @property
    def predictions(self) -> Tensor:
        """The nearest other image's class, int64 (N,)."""
        return self.labels[self.neighbours]

    @property
    def finite(self) -> Tensor:
        """Whether an image's embedding is finite, bool (N,)."""
        return self.points.isfinite().all(1)

    def columns(self) -> dict[str, Column]:
        """See `Answers`."""
        return {
            "file": self.files,
            "label": names_of(self.classes, self.labels),
            "prediction": names_of(self.classes, self.predictions),
            "neighbour": [self.files[i] for i in self.neighbours.tolist()],
            "distance": self.distances.numpy(),
            "embedding": lists(self.points),
        }

    def about(self) -> dict[str, Any]:
        """See `Answers`."""
        return {}

    def report(self) -> dict[str, Any]:
        """The fields of `EmbeddingReport` that say what the embedding is worth."""
        predictions = self.predictions
        counts = Counts.of_single(self.labels, predictions, len(self.classes))
        found = retrieval(self.points, self.labels, self.margin)
        return {
            "figures": {
                "accuracy": accuracy(self.labels, predictions),
                "macro_f1": counts.macro_f1(),
                "balanced_accuracy": counts.balanced_accuracy(),
                "recall_at_1": found.recall_at_1,
                "recall_at_5": found.recall_at_5,
                "map_at_r": found.map_at_r,
                "loss": found.loss,
                "active_triplets": found.active,
                "variance": found.variance,
            },
            "per_class": counts.rows(self.classes),
            "confusion": confusion_matrix(self.labels, predictions, len(self.classes)),
            "calibration": None,
            "mistake_count": int((self.labels != predictions).sum()),
            "mistakes": self._mistakes(),
            "old_classes": None,
        }

    def _mistakes(self) -> list[dict[str, object]]:
        wrong = ((self.labels != self.predictions) & self.distances.isfinite()).nonzero()[:, 0]
        order = self.distances[wrong].argsort(stable=True)[:MOST_MISTAKES]
        return [
            {
                "file": self.files[i],
                "label": self.classes[self.labels[i]],
                "prediction": self.classes[self.predictions[i]],
                "neighbour": self.files[self.neighbours[i]],
                "distance": self.distances[i].item(),
            }
            for i in wrong[order].tolist()
        ]


def nearest(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each point the index of the nearest other one, and the distance, each (N,).

    Of equally near ones it is one of another class, as in `Neighbours.ranks`, and of these the first.
    A distance that is no number counts as infinite.

    Args:
        points: float64 (N, size).
        labels: int64 (N,).
    """
    indices, distances = [], []
    for first in range(0, len(points), ROWS):
        rows = slice(first, first + ROWS)
        # Not by a matrix product, which is faster and finds equal points to lie apart.
        apart = torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
        apart = apart.nan_to_num(nan=inf, posinf=inf)
        own = torch.arange(first, first + len(apart))
        apart[torch.arange(len(apart)), own] = inf
        least = apart.amin(1, keepdim=True)
        others = torch.arange(len(points)) != own[:, None]
        tied = (apart == least) & others
        foreign = tied & (labels[rows, None] != labels)
        chosen = torch.where(foreign.any(1, keepdim=True), foreign, tied)
        indices.append(chosen.int().argmax(1))
        distances.append(least[:, 0])
    return torch.cat(indices), torch.cat(distances)
