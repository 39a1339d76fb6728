"""A watch over the losses of a stage's steps, which lets no step wait for the device."""

import torch
from torch import Tensor

from finetune.errors import NonfiniteLoss

EVERY = 20  # steps of a window


class LossWatch:
    """Fails the run where a loss is not finite.

    What a window of losses says is fetched from the device while the next window runs, and looked at where
    that one ends: by then it is there. So a bad loss is found up to two windows later, and named by its step.
    """

    def __init__(self, stage: str, epoch: int, done: int = 0, kept: int = 0) -> None:
        """For an epoch of which `done` steps were made before; `kept` is the last epoch with a checkpoint."""
        self._stage, self._epoch, self._kept = stage, epoch, kept
        self._losses: list[Tensor] = []
        self._seen = done  # steps before those of `_losses`
        self._fetched: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def add(self, loss: Tensor) -> None:
        """Takes a step's loss, a scalar on the device.

        Raises:
            NonfiniteLoss: an earlier one was NaN or infinite.
        """
        self._losses.append(loss)
        if len(self._losses) == EVERY:
            self._look()
            self._fetch()

    def finish(self) -> None:
        """Looks at all that is left; for this it waits.

        Raises:
            NonfiniteLoss: one was NaN or infinite.
        """
        self._look()
        if self._losses:
            self._fetch()
            self._look()

    def _fetch(self) -> None:
        finite, device = torch.isfinite(torch.stack(self._losses)), self._losses[0].device
        copied = None
        if device.type == "cuda":  # elsewhere there is no event to wait for
            finite = finite.to("cpu", non_blocking=True)
            copied = torch.cuda.current_stream(device).record_event()
        self._fetched = self._seen, finite, copied
        self._seen += len(self._losses)
        self._losses.clear()

    def _look(self) -> None:
        if self._fetched is None:
            return
        before, finite, copied = self._fetched
        self._fetched = None
        if copied is not None:
            copied.synchronize()
        if not bool(finite.all()):
            step = before + int((~finite).nonzero()[0]) + 1
            kept = f"; the checkpoint of epoch {self._kept} is kept" if self._kept else ""
            raise NonfiniteLoss(
                f"the loss became NaN or infinite in stage {self._stage!r}, epoch {self._epoch}, "
                f"step {step}: a smaller learning rate, a warm-up or max_grad_norm usually helps{kept}"
            )
