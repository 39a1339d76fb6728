"""Freeze policies: from a policy to the frozen modules, applying it, and proving that nothing moved.

Frozen means: `requires_grad` is false, the parameter is in no group, the module runs in eval mode. After
each epoch the frozen parameters and buffers must have the bytes that they had before the stage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from finetune.errors import FrozenChanged
from finetune.modules import matching, owner, parameter_counts
from finetune.spec.stages import (
    Freeze,
    FreezeBackbone,
    FreezeBefore,
    FreezeExcept,
    FreezeModules,
    FreezeNone,
)

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def _before(model: nn.Module, heads: tuple[str, ...], policy: FreezeBefore) -> set[str]:
    names = [name for name, _ in model.named_modules()]
    first = matching(model, heads, policy.module)[0]
    return set(names[: names.index(first)])


def _modules(model: nn.Module, heads: tuple[str, ...], policy: FreezeModules) -> set[str]:
    return {name for pattern in policy.modules for name in matching(model, heads, pattern)}


def _all_but(model: nn.Module, trained: set[str]) -> set[str]:
    return {name for name, _ in model.named_modules()} - trained


def _backbone(model: nn.Module, heads: tuple[str, ...], policy: FreezeBackbone) -> set[str]:
    return _all_but(model, {name for head in heads for name in matching(model, heads, head)})


def _except(model: nn.Module, heads: tuple[str, ...], policy: FreezeExcept) -> set[str]:
    return _all_but(model, {name for p in policy.modules for name in matching(model, heads, p)})


POLICIES: dict[type[Any], Callable[[nn.Module, tuple[str, ...], Any], set[str]]] = {
    FreezeNone: lambda model, heads, policy: set(),
    FreezeBackbone: _backbone,
    FreezeBefore: _before,
    FreezeModules: _modules,
    FreezeExcept: _except,
}


@dataclass(frozen=True)
class Freezing:
    """What a stage freezes in a network.

    `modules` are all frozen modules; `eval_modules` those of them that run in eval mode: the ones with
    nothing trained inside them. `parameters` and `buffers` are the tensors that must not move.
    """

    modules: frozenset[str]
    eval_modules: frozenset[str]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


def freezing_of(model: nn.Module, heads: tuple[str, ...], policy: Freeze, batch_norm: str) -> Freezing:
    """Which modules a policy freezes.

    `batch_norm` "update" lets the statistics of frozen BatchNorm modules follow the data.

    Raises:
        UnknownModule: the policy names a module that is not there.
    """
    frozen = POLICIES[type(policy)](model, heads, policy)
    trained = [name for name, _ in model.named_modules() if name not in frozen]
    holds_trained = {""} if trained else set()
    for name in trained:
        parts = name.split(".")
        holds_trained |= {".".join(parts[:n]) for n in range(1, len(parts))}
    updating = {
        name
        for name, module in model.named_modules()
        if batch_norm == "update" and name in frozen and isinstance(module, BATCH_NORM)
    }
    return Freezing(
        modules=frozenset(frozen),
        eval_modules=frozenset(frozen - holds_trained - updating),
        parameters=tuple(n for n, _ in model.named_parameters() if owner(n) in frozen),
        buffers=tuple(n for n, _ in model.named_buffers() if owner(n) in frozen - updating),
    )


def apply(model: nn.Module, freezing: Freezing) -> None:
    """Sets `requires_grad` and the modes of all modules for training under this freezing."""
    frozen = set(freezing.parameters)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        if name in frozen:
            parameter.grad = None
    set_training_mode(model, freezing)


def set_training_mode(model: nn.Module, freezing: Freezing) -> None:
    """Training mode but for the frozen modules; to be called after every evaluation."""
    for name, module in model.named_modules():
        module.training = name not in freezing.eval_modules


def alternates(model: nn.Module, heads: tuple[str, ...], freezing: Freezing) -> tuple[str, str, str] | None:
    """A trained, a frozen and a trained module in this order from input to output, where there are such.

    Auxiliary heads hang beside the way from input to output and do not count.
    """
    trained_before = frozen_between = None
    for name in parameter_counts(model):
        if any(name == aux or name.startswith(f"{aux}.") for aux in heads[1:]):
            continue
        if name in freezing.modules:
            frozen_between = frozen_between or (name if trained_before else None)
        elif frozen_between and trained_before:
            return trained_before, frozen_between, name
        else:
            trained_before = name
    return None


class FrozenGuard:
    """Holds a copy of a stage's frozen tensors and proves that they are as they were.

    Comparing with a copy takes a quarter of the time of a checksum, and a GPU's tensors stay there.
    """

    def __init__(self, model: nn.Module, freezing: Freezing) -> None:
        self._model = model
        self._names = (*freezing.parameters, *freezing.buffers)
        self._before = {name: tensor.clone() for name, tensor in self._tensors().items()}

    def verify(self, stage: str, epoch: int) -> None:
        """Compares with the start.

        Raises:
            FrozenChanged: a tensor has other bytes; names the first.
        """
        now = self._tensors()
        changed = [name for name in self._names if not _same_bytes(now[name], self._before[name])]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise FrozenChanged(f"stage {stage!r} froze {changed[0]}{more}, and epoch {epoch} changed it")

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return {name: tensors[name].detach() for name in self._names}


def _same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to the bit: zeros of either sign are two, and what is no number equals itself."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.stride() == b.stride() and a.ndim == 4 and a.is_contiguous(memory_format=torch.channels_last):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)  # as they lie in memory: without a copy
    a, b = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    if (
        len(a) | a.storage_offset() | b.storage_offset()
    ) % 8 == 0:  # eight bytes at a time: several times as fast
        a, b = a.view(torch.int64), b.view(torch.int64)
    return torch.equal(a, b)
