"""Any number of labels an image: binary cross-entropy, mean average precision, a threshold a class."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.data.dataset import Dataset
from finetune.objectives.base import Evaluation, Forward, LabelledBatches, total_weight
from finetune.objectives.tallies import LossAndShare
from finetune.spec.objectives import BinaryCrossEntropy

UNDECIDED = 0.5  # the threshold of a class that the validation images say nothing about
NOISE = 1e-5  # relative; by how much equal images' outputs may differ in fp32


class MultiLabel:
    """Trains with binary cross-entropy of each class by itself; validates with the plain one."""

    def __init__(self, pos_weight: Tensor | None, classes: Sequence[str], device: torch.device) -> None:
        self._pos_weight, self._classes, self._device = pos_weight, tuple(classes), device

    @classmethod
    def by_binary_cross_entropy(
        cls, spec: BinaryCrossEntropy, dataset: Dataset, device: torch.device
    ) -> "MultiLabel":
        """Binary cross-entropy; of images with one label each the other classes are absent."""
        weights = None
        if spec.class_weights == "balanced":
            weights = positive_weights(dataset.class_counts(), len(dataset.train)).to(device)
        return cls(weights, dataset.classes, device)

    def loss(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`. The mean over images and classes."""
        targets = targets_of(labels, outputs)
        if weights is None:
            return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=self._pos_weight)
        terms = F.binary_cross_entropy_with_logits(
            outputs, targets, pos_weight=self._pos_weight, reduction="none"
        )
        return (terms.mean(1) * weights).sum() / weights.sum()

    def weight(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`."""
        return total_weight(labels, weights)

    def tally(self) -> LossAndShare:
        """See `Objective`."""
        return LossAndShare(self._device, "label_accuracy", right)

    @torch.no_grad()
    def evaluate(self, forward: Forward, batches: LabelledBatches) -> Evaluation:
        """See `Objective`. Classes of which no validation image is are left out of `map` and `f1`."""
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        for inputs, labels in batches:
            outputs.append(forward(inputs))
            targets.append(targets_of(labels, outputs[-1]))
        logits, truth = torch.cat(outputs).cpu(), torch.cat(targets).cpu()
        loss = F.binary_cross_entropy_with_logits(logits.double(), truth.double()).item()
        thresholds = dict.fromkeys(self._classes, UNDECIDED)
        counted = truth.any(0).nonzero().flatten().tolist()
        if logits.isnan().any() or not counted:
            sign = "the outputs for validation images are not numbers" if counted else None
            undefined = {"loss": loss, "map": float("nan"), "f1": float("nan")}
            return Evaluation(undefined, sign, metadata={"thresholds": thresholds})
        truth, logits = truth[:, counted] > 0, logits[:, counted]
        probabilities = probabilities_of(logits)
        best = [best_threshold(p, t) for p, t in zip(probabilities.T, truth.T, strict=True)]
        thresholds |= {self._classes[c]: threshold for c, (threshold, _) in zip(counted, best, strict=True)}
        figures = {
            "loss": loss,
            "map": average_precisions(logits, truth).mean().item(),
            "f1": sum(f1 for _, f1 in best) / len(best),
        }
        given = probabilities >= torch.tensor([threshold for threshold, _ in best])
        sign = _nothing_learnt(figures["map"], logits, given, truth)
        return Evaluation(figures, sign, metadata={"thresholds": thresholds})


def right(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """How many labels of all images are given at 0.5 as they should be, and all of them.

    A label that is a share is there from a half on.
    """
    return ((logits >= 0) == (targets_of(labels, logits) >= 0.5)).sum(), logits.numel()


def targets_of(labels: Tensor, outputs: Tensor) -> Tensor:
    """What each output is to be, float (N, classes): the labels, or of int64 (N,) the one class of each."""
    return labels if labels.ndim > 1 else F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)


def probabilities_of(logits: Tensor) -> Tensor:
    """What the logits (N, classes) mean, float32 of the same shape.

    By way of float64: in float32 the sigmoids of equal logits differ in the last digit, depending on where
    they lie in memory, and a threshold would part equal images.
    """
    return logits.double().sigmoid().float()


def positive_weights(class_counts: Sequence[int], images: int) -> Tensor:
    """Negatives / positives of each class, float32 (classes,)."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return (images - counts) / counts


def average_precisions(logits: Tensor, truth: Tensor) -> Tensor:
    """The average precision of each class, float64 (classes,).

    Args:
        logits: (N, classes).
        truth: bool (N, classes), of each class one at least.
    """
    # The import takes a second, and only this objective needs it.
    from torchmetrics.functional.classification import multilabel_average_precision

    # Only the order counts, and ranks keep it where probabilities would be equal to one.
    ranks = torch.stack([column.unique(return_inverse=True)[1] for column in logits.T], 1).double()
    found = multilabel_average_precision(
        ranks / len(ranks), truth.long(), logits.shape[1], average="none", validate_args=False
    )
    return found.double()


def best_threshold(probabilities: Tensor, truth: Tensor) -> tuple[float, float]:
    """The threshold with the largest F1 of one class, and that F1. Given is what is not below it.

    It lies in the middle between two images' probabilities. Of equally good ones it is the lowest.

    Args:
        probabilities: float32 (N,), in [0, 1].
        truth: bool (N,), one at least.
    """
    ordered, order = probabilities.sort(descending=True, stable=True)
    below = torch.cat([ordered[1:], ordered.new_zeros(1)])
    hits = truth[order].cumsum(0).double()
    taken = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    f1 = 2 * hits / (taken + hits[-1])
    between = ordered > below  # no threshold parts images with the same probability
    between[-1] = True
    f1[~between] = -1
    last = int((f1 == f1.max()).nonzero()[-1])
    middle = (ordered[last] + below[last]) / 2
    # Between neighbours among float32 there is no middle.
    threshold = middle if middle > below[last] else ordered[last]
    return threshold.item(), f1[last].item()


def _nothing_learnt(mean_precision: float, logits: Tensor, given: Tensor, truth: Tensor) -> str | None:
    """What shows that a network is no better than chance, or None where it is."""
    spread = logits.amax(0) - logits.amin(0)
    same = (given == given[0]).all(0) | (spread <= NOISE * (1 + logits.abs().amax(0)))
    if same.all():
        return "every validation image got the same labels"
    share = truth.double().mean().item()
    if mean_precision <= share:
        return f"the mean average precision is {mean_precision:.3f}, and chance would give {share:.3f}"
    return None
