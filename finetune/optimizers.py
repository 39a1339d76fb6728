"""Optimizers: a row of `OPTIMIZERS` for each; state is kept and restored by parameter name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from finetune.groups import Group
from finetune.spec.optimizers import Adam, AdamW, Optimizer, Sgd

OPTIMIZERS: dict[type[Any], Callable[[list[dict[str, Any]], Any], torch.optim.Optimizer]] = {
    Sgd: lambda groups, spec: torch.optim.SGD(
        groups,
        lr=0.0,
        momentum=spec.momentum,
        dampening=spec.dampening,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
    ),
    Adam: lambda groups, spec: torch.optim.Adam(
        groups, lr=0.0, betas=tuple(spec.betas), eps=spec.eps, weight_decay=spec.weight_decay
    ),
    AdamW: lambda groups, spec: torch.optim.AdamW(
        groups, lr=0.0, betas=tuple(spec.betas), eps=spec.eps, weight_decay=spec.weight_decay
    ),
}

State = dict[str, dict[str, Tensor | float | None]]  # by parameter name


def build(spec: Optimizer, model: nn.Module, groups: Iterable[Group]) -> torch.optim.Optimizer:
    """An optimizer over the groups. Rates are 0 until the loop writes each step's into `group["lr"]`."""
    rows = [
        {"name": g.name, "factor": g.factor, "params": [model.get_parameter(p) for p in g.parameters]}
        for g in groups
    ]
    return OPTIMIZERS[type(spec)](rows, spec)


def state_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> State:
    """The optimizer's state (momentum and the like) by parameter name."""
    return {name: dict(optimizer.state[p]) for name, p in model.named_parameters() if p in optimizer.state}


def restore(optimizer: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Puts a state back that `state_of` gave."""
    for name, values in state.items():
        parameter = model.get_parameter(name)
        optimizer.state[parameter] = {
            key: _like(value, parameter) if key != "step" and isinstance(value, Tensor) else value
            for key, value in values.items()
        }


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """On the parameter's device and in its memory format, in which the optimizer made it."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
