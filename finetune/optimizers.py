"""Optimizers: a row of `OPTIMIZERS` for each; state is kept and restored by name.

`FUSED` says where torch makes a step of one kernel. On a CPU fused Adam and AdamW take 0.4 of the plain ones'
time, and fused SGD takes 1.8 of the plain one's (11 million numbers, torch 2.15). Elsewhere torch goes by
`foreach` where the device has it.
"""

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


def _of_adam(groups: Rows, spec: Adam | AdamW) -> dict[str, Any]:
    return {
        "betas": _pair(spec.betas),
        "eps": spec.eps,
        "weight_decay": spec.weight_decay,
        "fused": _fused(groups, spec),
    }


FUSED: dict[type[Any], tuple[str, ...]] = {Sgd: ("cuda",), Adam: ("cuda", "cpu"), AdamW: ("cuda", "cpu")}


def _fused(groups: Rows, spec: Sgd | Adam | AdamW) -> bool | None:
    """Whether the step is one kernel; None leaves the way to torch, which then takes none."""
    if not spec.fused or (isinstance(spec, Sgd) and spec.dampening):  # see `_begin_at_zero`
        return None
    return True if groups[0]["params"][0].device.type in FUSED[type(spec)] else None


OPTIMIZERS: dict[type[Any], Callable[[Rows, Any], torch.optim.Optimizer]] = {
    Sgd: lambda groups, spec: torch.optim.SGD(
        groups,
        lr=0.0,
        momentum=spec.momentum,
        dampening=spec.dampening,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
        fused=_fused(groups, spec),
    ),
    Adam: lambda groups, spec: torch.optim.Adam(groups, lr=0.0, **_of_adam(groups, spec)),
    AdamW: lambda groups, spec: torch.optim.AdamW(groups, lr=0.0, **_of_adam(groups, spec)),
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
    optimizer = OPTIMIZERS[type(spec)](rows, spec)
    if isinstance(spec, Sgd) and spec.momentum and optimizer.defaults["fused"]:
        _begin_at_zero(optimizer)
    return optimizer


def _begin_at_zero(optimizer: torch.optim.Optimizer) -> None:
    """Makes the momentum of a fused SGD beforehand.

    Its kernel skips a step whose gradients overflowed in fp16. Were that the first, the second would take
    what lies in fresh memory for the momentum. From 0 the first step is the same to the bit: `_fused` sees to
    it that there is no dampening.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def state_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> State:
    """What the optimizer remembers: momentum and the like by parameter, counts of steps by group."""
    return {
        "parameters": {
            name: dict(optimizer.state[p]) for name, p in model.named_parameters() if p in optimizer.state
        },
        "groups": {g["name"]: {"step": g["step"]} for g in optimizer.param_groups if "step" in g},
    }


def restore(optimizer: torch.optim.Optimizer, model: nn.Module, state: State) -> None:
    """Puts a state back that `state_of` gave.

    Counts of steps (`step`) lie beside the parameter where the step is one kernel, else in the CPU's memory.
    """
    fused = bool(optimizer.defaults.get("fused"))
    for name, values in state.get("parameters", {}).items():
        parameter = model.get_parameter(name)
        optimizer.state[parameter] = {
            key: _placed(key, value, parameter, fused) if isinstance(value, Tensor) else value
            for key, value in values.items()
        }
    counts = state.get("groups", {})
    for group in optimizer.param_groups:
        group.update(counts.get(group["name"], {}))


def _placed(key: str, value: Tensor, parameter: nn.Parameter, fused: bool) -> Tensor:
    """Where the optimizer made it, and in the parameter's memory format."""
    if key == "step":
        return value.to(parameter.device) if fused else value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
