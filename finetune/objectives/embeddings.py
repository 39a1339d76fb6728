"""Embeddings in a space: which images lie near which, and what that is worth.

Distances are Euclidean. Figures over a split count every triplet and every neighbour exactly: they depend
neither on batches nor on a draw. For N images they take N² log N time, and memory for `ROWS` × N numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.objectives.tallies import exact_dtype

ROWS = 256  # anchors whose distances to all others are held at once


def placed(outputs: Tensor, normalize: bool) -> Tensor:
    """A network's outputs (N, size) as points, with `normalize` on the unit sphere."""
    return F.normalize(outputs) if normalize else outputs


@dataclass(frozen=True)
class Neighbours:
    """Distances from anchors to other images, ascending along a row, infinite where there are no more.

    `same`: to the images of the anchor's class without itself. `other`: to those of other classes.
    """

    same: Tensor
    other: Tensor

    @classmethod
    def of(
        cls,
        points: Tensor,
        labels: Tensor,
        first: int = 0,
        rows: int | None = None,
        most: int | None = None,
    ) -> "Neighbours":
        """Of `rows` anchors from the `first` one on, or of all.

        Args:
            points: (N, size).
            labels: int64 (N,).
            first: index of the first anchor.
            rows: how many anchors.
            most: how many others a class has at most, where that is known.
        """
        anchors = slice(first, None if rows is None else first + rows)
        distances = torch.cdist(points[anchors], points)
        alike = labels[anchors, None] == labels
        itself = torch.arange(len(points), device=points.device)
        others = itself[anchors, None] != itself
        return cls(
            same=distances.masked_fill(~(alike & others), inf)
            .topk(len(points) if most is None else most, largest=False)
            .values,
            other=distances.masked_fill(alike, inf).sort(1).values,
        )

    def violations(self, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """Over all triplets: the sum of max(0, positive - negative + margin), how many are above 0, how many.

        Three scalars. The k nearest negatives of a pair violate its margin, so that sorted negatives and
        their running sums give all triplets of a pair at once.
        """
        pairs, negatives = self.same.isfinite(), self.other.isfinite()
        reach = self.same.masked_fill(~pairs, 0) + margin
        active = torch.searchsorted(self.other, reach)
        sums = F.pad(self.other.masked_fill(~negatives, 0).cumsum(1), (1, 0))
        losses = active * reach - sums.gather(1, active)
        triplets = (pairs.sum(1) * negatives.sum(1)).sum()
        # Filled and not picked out: picking waits for the device.
        return losses.masked_fill(~pairs, 0).sum(), active.masked_fill(~pairs, 0).sum(), triplets

    def ranks(self) -> Tensor:
        """The places (from 1) at which an anchor's neighbours are of its class, ascending along a row.

        Infinite where there are no more. At equal distances other classes come first: an embedding that puts
        everything into one point finds nothing.
        """
        nearer = torch.searchsorted(self.other, self.same.masked_fill(self.same.isinf(), 0), right=True)
        place = torch.arange(1, self.same.shape[1] + 1, device=self.same.device)
        return (nearer + place).to(self.same.dtype).masked_fill(self.same.isinf(), inf)


@dataclass(frozen=True)
class Retrieval:
    """What the embedding of a split is worth when each image is looked for with each other one.

    recall_at_1, recall_at_5: share of images with one of their class among the 1 or 5 nearest others.
    map_at_r: mean average precision at R, R the other images of the class (Musgrave et al. 2020).
    loss, active: mean of the triplet loss over all triplets, and the share of them above 0.
    variance: over the images, its mean over the dimensions.
    spread: root mean square distance of two images.

    An image that is alone in its class has nothing to be found: it is no anchor, and counts as the others'
    neighbour. All are NaN where an embedding is not finite.
    """

    recall_at_1: float
    recall_at_5: float
    map_at_r: float
    loss: float
    active: float
    variance: float
    spread: float


def retrieval(points: Tensor, labels: Tensor, margin: float) -> Retrieval:
    """The figures of points (N, size) with labels int64 (N,).

    At least two images are of one class, and at least one is of another.
    """
    if not bool(points.isfinite().all()):
        return Retrieval(nan, nan, nan, nan, nan, nan, nan)
    points = points.to(exact_dtype(points.device))
    parts = [_sums(found, margin) for found in _by_rows(points, labels)]
    at_1, at_5, precision, anchors, loss, active, triplets = torch.stack(parts).sum(0).tolist()
    variances = points.var(0, correction=0)
    return Retrieval(
        recall_at_1=at_1 / anchors,
        recall_at_5=at_5 / anchors,
        map_at_r=precision / anchors,
        loss=loss / triplets,
        active=active / triplets,
        variance=variances.mean().item(),
        spread=(2 * variances.sum()).sqrt().item(),
    )


def _by_rows(points: Tensor, labels: Tensor) -> Iterator[Neighbours]:
    most = int(labels.bincount().max()) - 1
    for first in range(0, len(points), ROWS):
        yield Neighbours.of(points, labels, first, ROWS, most)


def _sums(found: Neighbours, margin: float) -> Tensor:
    ranks = found.ranks()
    in_class = ranks.isfinite().sum(1, keepdim=True)
    place = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precision = (place / ranks).masked_fill(ranks > in_class, 0).sum(1) / in_class[:, 0].clamp(min=1)
    counts = [(ranks[:, 0] <= 1).sum(), (ranks[:, 0] <= 5).sum(), precision.sum(), in_class.count_nonzero()]
    return torch.stack([number.to(ranks.dtype) for number in (*counts, *found.violations(margin))])
