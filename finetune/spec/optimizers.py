"""Optimizers as data. What builds them is in `finetune.optimizers`."""

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.base import Part, chosen_by

Beta = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=1e6)]


class Sgd(Part):
    """v ← momentum·v + (1 - dampening)·(g + weight_decay·p), p ← p - lr·v, as in torch."""

    name: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0
    weight_decay: Decay = 0.0
    nesterov: bool = False

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        momentum, dampening = info.data.get("momentum"), info.data.get("dampening")
        if nesterov and (momentum == 0 or dampening):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")
        return nesterov


class Adam(Part):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""

    name: Literal["adam"]
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.999])
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Decay = 0.0


class AdamW(Part):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"]
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = Field(default=[0.9, 0.999])
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    weight_decay: Decay = 0.01


Optimizer = Annotated[
    Annotated[Sgd, Tag("<sgd>")] | Annotated[Adam, Tag("<adam>")] | Annotated[AdamW, Tag("<adamw>")],
    chosen_by("name", "sgd", "adam", "adamw"),
]
