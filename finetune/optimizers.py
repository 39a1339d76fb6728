"""Optimizers: a row of `OPTIMIZERS` for each; state is kept and restored by name."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from finetune.backbones import timm
from finetune.groups import Group
from finetune.spec.optimizers import Adam, AdamW, Lamb, Lion, Optimizer, RmsProp, Sgd

Rows = list[dict[str, Any]]


def _lamb(groups: Rows, spec: Lamb) -> torch.optim.Optimizer:
    from timm.optim.lamb import Lamb as TimmLamb  # of an extra: loaded where it is asked for

    return TimmLamb(
        groups,
        lr=0.0,
        betas=_pair(spec.betas),
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        max_grad_norm=None,  # timm's clips at 1 unless told: here the stage's max_grad_norm alone decides
    )


def _lion(groups: Rows, spec: Lion) -> torch.optim.Optimizer:
    from timm.optim.lion import Lion as TimmLion

    return TimmLion(groups, lr=0.0, betas=_pair(spec.betas), weight_decay=spec.weight_decay)


def _pair(betas: list[float]) -> tuple[float, float]:
    return betas[0], betas[1]


OPTIMIZERS: dict[type[Any], Callable[[Rows, Any], torch.optim.Optimizer]] = {
    Sgd: lambda groups, spec: torch.optim.SGD(
        groups,
        lr=0.0,
        momentum=spec.momentum,
        dampening=spec.dampening,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
    ),
    Adam: lambda groups, spec: torch.optim.Adam(
        groups, lr=0.0, betas=_pair(spec.betas), eps=spec.eps, weight_decay=spec.weight_decay
    ),
    AdamW: lambda groups, spec: torch.optim.AdamW(
        groups, lr=0.0, betas=_pair(spec.betas), eps=spec.eps, weight_decay=spec.weight_decay
    ),
    RmsProp: lambda groups, spec: torch.optim.RMSprop(
        groups,
        lr=0.0,
        alpha=spec.alpha,
        eps=spec.eps,
        weight_decay=spec.weight_decay,
        momentum=spec.momentum,
        centered=spec.centered,
    ),
    Lamb: _lamb,
    Lion: _lion,
}
FROM_TIMM = (Lamb, Lion)


def unavailable(spec: Optimizer) -> str | None:
    """A sentence where an optimizer needs what is not installed, else None."""
    if isinstance(spec, FROM_TIMM) and not timm.installed():
        return f"the optimizer {spec.name} is timm's, which is not installed here: {timm.INSTALL}"
    return None


State = dict[str, dict[str, Any]]  # "parameters" and "groups", each by name


def build(spec: Optimizer, model: nn.Module, groups: Iterable[Group]) -> torch.optim.Optimizer:
    """An optimizer over the groups. Rates are 0 until the loop writes each step's into `group["lr"]`."""
    rows: Rows = [
        {
            "name": g.name,
            "factor": g.factor,
            "params": [model.get_parameter(p) for p in g.parameters],
            **({} if g.decays else {"weight_decay": 0.0}),
        }
        for g in groups
    ]
    return OPTIMIZERS[type(spec)](rows, spec)


def state_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> State:
    """What the optimizer remembers: momentum and the like by parameter, counts of steps by group."""
    return {
        "parameters": {
            name: dict(optimizer.state[p]) for name, p in model.named_parameters() if p in optimizer.state
        },
        "groups": {g["name"]: {"step": g["step"]} for g in optimizer.param_groups if "step" in g},
    }


def restore(optimizer: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Puts a state back that `state_of` gave."""
    for name, values in state.get("parameters", {}).items():
        parameter = model.get_parameter(name)
        optimizer.state[parameter] = {
            key: _like(value, parameter) if key != "step" and isinstance(value, Tensor) else value
            for key, value in values.items()
        }
    counts = state.get("groups", {})
    for group in optimizer.param_groups:
        group.update(counts.get(group["name"], {}))


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """On the parameter's device and in its memory format, in which the optimizer made it."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
