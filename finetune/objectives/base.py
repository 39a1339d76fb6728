"""What every objective offers to the loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from finetune.learning import ADVICE

Forward = Callable[[Tensor], Tensor]  # inputs to outputs, (N, …) to (N, outputs)
LabelledBatches = Iterable[tuple[Tensor, Tensor]]  # (inputs, labels) on the device


@dataclass(frozen=True)
class Evaluation:
    """A network's figures on a split, by name.

    `sign` is a phrase that shows that it has learnt nothing, where it has not, and `advice` is what usually
    helps then. `metadata` goes into the checkpoint beside the weights: plain values that a program needs to
    use the outputs.
    """

    figures: dict[str, float]
    sign: str | None = None
    advice: str = ADVICE
    metadata: dict[str, Any] = field(default_factory=dict)


def total_weight(labels: Tensor, weights: Tensor | None) -> Tensor:
    """How many images a batch has, or the sum of their weights; a scalar."""
    if weights is not None:
        return weights.sum()
    return torch.full((), float(len(labels)), device=labels.device)  # filled there: a copy would wait for it


class Tally(Protocol):
    """An epoch's training figures, kept on the device so that no step waits for them."""

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Counts a batch: its mean loss, the outputs (N, …), the labels, and the images' weights if any."""

    def figures(self) -> dict[str, float]:
        """The figures over all that was counted; `loss` is among them."""

    def to_state(self) -> dict[str, Any]:
        """All that was counted: plain values, and tensors on the CPU."""

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `to_state` gave."""


class Objective(Protocol):
    """An objective of a run. Labels are int64 (N,), or float32 (N, classes) where an image has several.

    Weights of images are float32 (N,) and above 0. A whole number is like so many of the image in the batch.
    """

    def loss(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean loss of a batch, a scalar; with weights the weighted mean."""

    def weight(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """What the mean of this batch counts beside the means of others, a scalar.

        Batches whose gradients make one step are weighed with it, so that the step is that of one batch.
        """

    def tally(self) -> Tally:
        """An empty tally."""

    def evaluate(self, forward: Forward, batches: LabelledBatches) -> Evaluation:
        """The figures of a function in eval mode, whose outputs are float32. Runs without gradients."""
