"""A model's figures on a split."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the field's usual name


@dataclass
class Tally:
    """Sums over batches, kept on the device so that no step waits for them."""

    loss: Tensor
    correct: Tensor
    count: int = 0

    @classmethod
    def on(cls, device: torch.device) -> "Tally":
        """An empty tally."""
        exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        return cls(
            torch.zeros((), dtype=exact, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
        )

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch: its mean loss, logits (N, classes), labels (N,)."""
        self.loss += loss.detach().to(self.loss.dtype) * len(labels)
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.count += len(labels)

    def figures(self) -> dict[str, float]:
        """The mean loss and the accuracy over all images."""
        return {"loss": self.loss.item() / self.count, "accuracy": self.correct.item() / self.count}


@dataclass(frozen=True)
class Evaluation:
    """Figures on a split, and how often each class was predicted and was right, both in class order."""

    figures: dict[str, float]
    predicted: list[int]
    labelled: list[int]


@torch.no_grad()
def evaluate(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: int,
    device: torch.device,
) -> Evaluation:
    """Cross-entropy and accuracy of a function in eval mode over (inputs, labels) batches, in fp32."""
    tally = Tally.on(device)
    predicted = torch.zeros(classes, dtype=torch.int64, device=device)
    labelled = torch.zeros_like(predicted)
    for inputs, labels in batches:
        logits = forward(inputs)
        tally.add(F.cross_entropy(logits, labels), logits, labels)
        predicted += torch.bincount(logits.argmax(1), minlength=classes)
        labelled += torch.bincount(labels, minlength=classes)
    return Evaluation(tally.figures(), predicted.tolist(), labelled.tolist())
