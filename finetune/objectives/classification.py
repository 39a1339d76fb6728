"""One label an image: cross-entropy and focal loss, with accuracy."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.data.dataset import Dataset
from finetune.learning import nothing_learnt
from finetune.objectives.base import Evaluation, Forward, LabelledBatches, total_weight
from finetune.objectives.tallies import LossAndShare
from finetune.spec.objectives import CrossEntropy, Focal

# Logits (N, classes), labels (N,) or shares (N, classes), "mean" or "none" → the mean, or the terms (N,).
Loss = Callable[[Tensor, Tensor, str], Tensor]


class Classification:
    """Trains with `loss`; validates with plain cross-entropy and accuracy, whatever the training loss."""

    def __init__(
        self, loss: Loss, class_weights: Tensor | None, classes: Sequence[str], device: torch.device
    ) -> None:
        self._loss, self._class_weights = loss, class_weights
        self._classes, self._device = tuple(classes), device

    @classmethod
    def by_cross_entropy(cls, spec: CrossEntropy, dataset: Dataset, device: torch.device) -> "Classification":
        """Cross-entropy with label smoothing and class weights."""
        weights = _weights(spec.class_weights, dataset, device)

        def loss(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
            smoothing = spec.label_smoothing
            return F.cross_entropy(logits, labels, weights, reduction=reduction, label_smoothing=smoothing)

        return cls(loss, weights, dataset.classes, device)

    @classmethod
    def by_focal_loss(cls, spec: Focal, dataset: Dataset, device: torch.device) -> "Classification":
        """Focal loss (Lin et al. 2017) with class weights."""
        weights = _weights(spec.class_weights, dataset, device)

        def loss(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
            return focal_loss(logits, labels, spec.gamma, weights, reduction)

        return cls(loss, weights, dataset.classes, device)

    def loss(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`. An image's weight and its class's weight are multiplied."""
        if weights is None:
            return self._loss(outputs, labels, "mean")
        return (self._loss(outputs, labels, "none") * weights).sum() / self.weight(labels, weights)

    def weight(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Objective`. With class weights torch's mean divides by their sum over hard labels."""
        if self._class_weights is None or labels.ndim > 1:
            return total_weight(labels, weights)
        of_classes = self._class_weights[labels]
        return of_classes.sum() if weights is None else (of_classes * weights).sum()

    def tally(self) -> LossAndShare:
        """See `Objective`."""
        return LossAndShare(self._device, "accuracy", right)

    @torch.no_grad()
    def evaluate(self, forward: Forward, batches: LabelledBatches) -> Evaluation:
        """See `Objective`."""
        tally, count = self.tally(), len(self._classes)
        predicted = torch.zeros(count, dtype=torch.int64, device=self._device)
        labelled = torch.zeros_like(predicted)
        for inputs, labels in batches:
            logits = forward(inputs)
            tally.add(F.cross_entropy(logits, labels), logits, labels)
            predicted += torch.bincount(logits.argmax(1), minlength=count)
            labelled += torch.bincount(labels, minlength=count)
        figures = tally.figures()
        sign = nothing_learnt(figures["accuracy"], predicted.tolist(), labelled.tolist(), self._classes)
        return Evaluation(figures, sign)


def right(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """How many images have the largest logit at their label (or largest share), and how many there are."""
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    return (logits.argmax(1) == hard).sum(), len(labels)


def focal_loss(
    logits: Tensor, labels: Tensor, gamma: float, class_weights: Tensor | None, reduction: str = "mean"
) -> Tensor:
    """The mean over a batch of w_c (1 - p_c)^gamma · -log p_c, c the label, divided by the mean of w_c.

    Args:
        logits: (N, classes).
        labels: int64 (N,), or shares of the classes (N, classes), whose terms are then added up by share.
        gamma: 0 is cross-entropy.
        class_weights: (classes,), or none. For hard labels the weighted mean, as torch's cross-entropy.
        reduction: `none` gives each image's term, (N,), with nothing divided.
    """
    shares = labels if labels.ndim > 1 else F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    log_p = F.log_softmax(logits, 1)
    # A probability that has rounded to 1 would have an infinite slope below gamma 1, and NaN with its 0 loss.
    unsure = (1 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).eps)
    terms = -shares * unsure**gamma * log_p
    if reduction == "none":
        return (terms if class_weights is None else terms * class_weights).sum(1)
    if class_weights is None:
        return terms.sum() / len(labels)
    weighted = (terms * class_weights).sum()
    return weighted / (len(labels) if labels.ndim > 1 else class_weights[labels].sum())


def _weights(kind: str, dataset: Dataset, device: torch.device) -> Tensor | None:
    return balanced_weights(dataset.class_counts()).to(device) if kind == "balanced" else None


def balanced_weights(class_counts: Sequence[int]) -> Tensor:
    """Images / (classes × images of the class), float32 (classes,): scikit-learn's "balanced"."""
    counts = torch.tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(class_counts) * counts)
