"""Where a run computes, in which precision, and what it took."""

import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finetune.processor import processor


@dataclass(frozen=True)
class Compute:
    """A device, the precision of steps and of each epoch's evaluation, and how images lie in memory."""

    device: torch.device
    precision: str
    layout: torch.memory_format = torch.channels_last

    def laid(self, network: nn.Module) -> nn.Module:
        """A network there, its convolutions as the images lie."""
        return network.to(self.device).to(memory_format=self.layout)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a training step's forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype)

    def evaluating(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The network in this precision, its outputs in float32, in which all figures are computed."""

        def forward(inputs: Tensor) -> Tensor:
            with self.autocast():
                return network(inputs).float()

        return forward

    def seed(self, value: int) -> None:
        """Seeds what random numbers are drawn from, here and on the device.

        `torch.manual_seed` does so on devices of all kinds; for each kind that is not in use it writes down
        the whole call stack, which takes longer than a small network's step.
        """
        match self.device.type:
            case "cpu":
                torch.default_generator.manual_seed(value)
            case "cuda":
                torch.default_generator.manual_seed(value)
                torch.cuda.manual_seed_all(value)
            case _:
                torch.manual_seed(value)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients of fp16 from vanishing; in other precisions it changes nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def reset_peak(self) -> None:
        """Starts a new measurement of the device's peak memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory_bytes(self) -> int:
        """The GPU's peak since the last reset, or the process's since its start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def choose(device: str, precision: str, channels_last: bool = True) -> Compute:
    """`auto` takes a GPU where there is one, and of precisions the one that the device is fastest in.

    That is bf16 where it has it natively; on a GPU without it fp16, elsewhere fp32.
    """
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, so that an accuracy is the same on the CPU
    if precision == "auto":
        narrow = "fp16" if chosen.type == "cuda" else "fp32"
        precision = "bf16" if _is_faster_in_bf16(chosen) else narrow
    return Compute(chosen, precision, torch.channels_last if channels_last else torch.contiguous_format)


def _is_faster_in_bf16(device: torch.device) -> bool:
    """By what is known of the device rather than by a measurement, which a busy minute could turn round.

    Each attempt at a job asks anew, and all are to train in the same precision.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and not _is_intel_without_amx()
    return False


def _is_intel_without_amx() -> bool:
    """Whether bf16 may be there and yet be slow.

    AMX computes in bf16, and virtual machines often hide it. Without it convolutions in bf16 were seen to
    take one and a half times as long as in fp32 (docs/performance.md).
    """
    return processor("vendor_id") == "GenuineIntel" and "amx_bf16" not in processor("flags").split()
