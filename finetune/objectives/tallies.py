"""An epoch's training figures, whatever the objective."""

from collections.abc import Callable

import torch
from torch import Tensor

# From outputs (N, …) and labels to how many of the judged things are so, and how many were judged.
Judge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | int]]


def exact_dtype(device: torch.device) -> torch.dtype:
    """In what sums are kept: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class LossAndShare:
    """The mean loss over all images, and the share of what was judged that is so: an accuracy, say.

    Sums over batches are kept on the device, so that no step waits for them.
    """

    def __init__(self, device: torch.device, name: str, judge: Judge) -> None:
        self._name, self._judge, self._images = name, judge, 0
        self._loss, self._so, self._of = torch.zeros(3, dtype=exact_dtype(device), device=device)

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Counts a batch: its mean loss, the outputs (N, …) and the labels."""
        so, of = self._judge(outputs.detach(), labels)
        self._loss += loss.detach().to(self._loss.dtype) * len(labels)
        self._so += so
        self._of += of
        self._images += len(labels)

    def figures(self) -> dict[str, float]:
        """The figures over all that was counted."""
        return {"loss": self._loss.item() / self._images, self._name: self._so.item() / self._of.item()}
