"""An epoch's training figures, whatever the objective."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# From outputs (N, …) and labels to how many of the judged things are so, and how many were judged.
Judge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | int]]


def exact_dtype(device: torch.device) -> torch.dtype:
    """In what sums are kept: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class LossAndShare:
    """The mean loss over all images, and the share of what was judged that is so: an accuracy, say.

    Where images have weights the loss is the weighted mean, as in training; the share counts each image once.
    Sums over batches are kept on the device, so that no step waits for them.
    """

    def __init__(self, device: torch.device, name: str, judge: Judge) -> None:
        self._name, self._judge = name, judge
        self._counted: int | Tensor = 0  # images, or the sum of their weights
        self._loss, self._so, self._of = torch.zeros(3, dtype=exact_dtype(device), device=device)

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Counts a batch: its mean loss, the outputs (N, …), the labels, and the images' weights if any."""
        so, of = self._judge(outputs.detach(), labels)
        count = len(labels) if weights is None else weights.sum(dtype=self._loss.dtype)
        self._loss += loss.detach().to(self._loss.dtype) * count
        self._so += so
        self._of += of
        self._counted = self._counted + count

    def to_state(self) -> dict[str, Any]:
        """See `Tally`."""
        counted = self._counted.cpu() if isinstance(self._counted, Tensor) else self._counted
        sums = {"loss": self._loss, "so": self._so, "of": self._of}
        return {"counted": counted, **{name: value.clone().cpu() for name, value in sums.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Tally`."""
        device, counted = self._loss.device, state["counted"]
        self._counted = counted.to(device) if isinstance(counted, Tensor) else counted
        self._loss, self._so, self._of = (state[name].to(device) for name in ("loss", "so", "of"))

    def figures(self) -> dict[str, float]:
        """The figures over all that was counted."""
        return {
            "loss": self._loss.item() / float(self._counted),
            self._name: self._so.item() / self._of.item(),
        }
