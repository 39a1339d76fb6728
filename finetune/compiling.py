"""torch.compile for the network of a stage's steps: trying it, timing it, and deciding on it.

What is compiled is the call of the network, beside the network itself: its names, its state and evaluation
stay as they are. Batches of another length than most (the last of an epoch) go the plain way, as each length
would be compiled anew. On a GPU small batches are recorded as CUDA graphs, as launching
their kernels takes longer than running them.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetune.compile_costs import Choice, Costs, KeptCosts, too_few, too_short
from finetune.device import Compute
from finetune.errors import CompileFailed
from finetune.freezing import Freezing
from finetune.network import logits_and_auxiliary
from finetune.processor import processor
from finetune.reasons import reason_of
from finetune.tables import StageTables

Forward = Callable[[Tensor], Any]
SMALL = 16 * 224 * 224  # pixels of a batch
TIMED = 3  # passes, of which the middle one counts


def obstacle(table: StageTables) -> str | None:
    """Why a stage's network is not compiled whatever the spec says, else None."""
    if table.features_once:
        return "it runs over features that are computed once"
    if table.recomputed:
        return "gradient_checkpointing decides itself what runs when"
    return None


def check(compute: Compute) -> None:
    """Compiles a trifle.

    Raises:
        CompileFailed: this machine cannot; says what to install.
    """
    try:
        torch.compile(_trifle, dynamic=False)(torch.ones(8, device=compute.device))
    except Exception as error:  # whatever stands in its way, from a missing program to a full disk
        needed = "a C compiler (gcc) and triton" if compute.device.type == "cuda" else "a C++ compiler (g++)"
        raise CompileFailed(
            f"torch.compile does not work here ({reason_of(error)}): the worker's machine needs {needed} and "
            'the headers of Python (python3-dev); or set compile to "off"',
            "compile",
        ) from error


def _trifle(x: Tensor) -> Tensor:
    return x.sin() * 2 + 1


@dataclass(frozen=True)
class Trial:
    """The network of a stage before its first step, and what a batch of it looks like."""

    model: nn.Module
    freezing: Freezing
    compute: Compute
    backbone: object
    batch: int
    size: int
    accumulate: int

    @property
    def graphs(self) -> bool:
        """Whether CUDA graphs pay. They write over what the batch before gave, its gradients too."""
        small = self.batch * self.size**2 <= SMALL
        return self.compute.device.type == "cuda" and small and self.accumulate == 1

    def key(self) -> tuple[object, ...]:
        """What the costs depend on."""
        return (
            _machine(self.compute.device),
            torch.get_num_threads(),
            str(torch.__version__),
            self.backbone,
            (self.batch, self.size, self.compute.precision, self.graphs),
            (tuple(sorted(self.freezing.eval_modules)), self.freezing.parameters),
        )

    def compile(self) -> tuple[Forward, float]:
        """The network's call, compiled for its usual batch, and the seconds that it took.

        Raises:
            CompileFailed: torch cannot compile this network.
        """
        torch.compiler.reset()  # each stage has its own; torch gives up on a function compiled too often
        # Dropout draws what it draws without compiling, so that only rounding differs.
        options: dict[str, Any] = {"fallback_random": True, "triton.cudagraphs": self.graphs}
        compiled = torch.compile(self.model, dynamic=False, options=options)
        start = time.perf_counter()
        try:
            with self._as_before() as images:
                self._pass(compiled, images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise CompileFailed(
                f'torch.compile cannot compile this network ({reason_of(error)}): set compile to "off"',
                "compile",
            ) from error
        return self._for_usual_batches(compiled), time.perf_counter() - start

    def seconds(self, forward: Forward) -> float:
        """How long a batch takes there and back; nothing of the network is other afterwards."""
        found = []
        with self._as_before() as images:
            for _ in range(TIMED):
                start = time.perf_counter()
                self._pass(forward, images)
                found.append(time.perf_counter() - start)
        return statistics.median(found)

    def _for_usual_batches(self, compiled: Forward) -> Forward:
        usual, plain, graphs = self.batch, self.model, self.graphs

        def forward(images: Tensor) -> Any:
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch's
            return compiled(images) if len(images) == usual else plain(images)

        return forward

    @contextmanager
    def _as_before(self) -> Iterator[Tensor]:
        """Random images to try the network with; its buffers and gradients are then as they were."""
        buffers = [
            (module, name, buffer, buffer.clone())
            for module in self.model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        images = torch.randn(self.batch, 3, self.size, self.size, device=self.compute.device)
        try:
            yield images.contiguous(memory_format=self.compute.layout)
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for module, name, buffer, before in buffers:
                    module._buffers[name] = buffer.copy_(before)

    def _pass(self, forward: Forward, images: Tensor) -> None:
        with self.compute.autocast():
            outputs, auxiliary = logits_and_auxiliary(forward(images))
            total = torch.stack([output.float().sum() for output in (outputs, *auxiliary)]).sum()
        torch.autograd.backward(total)
        self.model.zero_grad(set_to_none=True)
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize(self.compute.device)


def decide(
    wish: str, trial: Trial, kept: KeptCosts, batches: int, began: bool | None = None
) -> tuple[Choice, Forward]:
    """Whether so many batches run compiled, and the network's call for them.

    "on" compiles. "auto" does as the stage began (`began`), where it goes on after an interruption. Else it
    goes by what was measured before for the same machine, network, batch, precision and freezing: it compiles
    where the batches repay it. Where nothing is known it measures, if the batches are not too few (`too_few`)
    nor too short (`too_short`) to repay that; what it finds is kept.

    Raises:
        CompileFailed: with "on" alone.
    """
    plain: Forward = trial.model
    if wish == "off":
        return Choice(False, "as the spec says"), plain
    if wish == "on":
        forward, seconds = trial.compile()
        return Choice(True, f"as the spec says; it took {seconds:.3g} s"), forward
    try:
        choice = _known(trial, kept, batches, began)
        if choice is None:
            return _measured(trial, kept, batches)
        return choice, trial.compile()[0] if choice.compiled else plain
    except CompileFailed as error:
        return Choice(False, error.message), plain


def _known(trial: Trial, kept: KeptCosts, batches: int, began: bool | None) -> Choice | None:
    if began is not None:
        return Choice(began, "as the stage began")
    costs = kept.find(*trial.key())
    return None if costs is None else costs.judge(batches)


def _measured(trial: Trial, kept: KeptCosts, batches: int) -> tuple[Choice, Forward]:
    eager = 0.0
    unfit = too_few(batches)
    if unfit is None:
        eager = trial.seconds(trial.model)
        unfit = too_short(batches, eager)
    if unfit is not None:
        return unfit, trial.model
    forward, seconds = trial.compile()
    costs = Costs(seconds, eager, trial.seconds(forward))
    kept.keep(costs, *trial.key())
    # By the rule for costs that were known: killed here, the next attempt finds them and must do the same.
    choice = costs.judge(batches)
    return choice, forward if choice.compiled else trial.model


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return processor("model name") or platform.processor() or platform.machine()
