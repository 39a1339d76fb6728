"""Optimizers as data. What builds them is in `finetune.optimizers`."""

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.base import Part, chosen_by

Beta = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=1e6)]


class Decaying(Part):
    """What all optimizers share."""

    weight_decay: Decay = 0.0
    decay_norms_and_biases: bool = Field(
        default=True, description="false: no weight decay on biases and on what normalisation layers learn."
    )


Fused = Annotated[
    bool,
    Field(
        description="Make a step in one kernel where that is faster on the device: equal but for rounding."
    ),
]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]
Epsilon = Annotated[float, Field(gt=0, le=1)]


class Sgd(Decaying):
    """v ← momentum·v + (1 - dampening)·(g + weight_decay·p), p ← p - lr·v, as in torch."""

    name: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0
    nesterov: bool = False
    fused: Fused = True

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        momentum, dampening = info.data.get("momentum"), info.data.get("dampening")
        if nesterov and (momentum == 0 or dampening):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")
        return nesterov


class Adam(Decaying):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient."""

    name: Literal["adam"]
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Epsilon = 1e-8
    fused: Fused = True


class AdamW(Decaying):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"]
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Epsilon = 1e-8
    weight_decay: Decay = 0.01
    fused: Fused = True


class RmsProp(Decaying):
    """RMSprop (Hinton 2012), as in torch; `centered` divides by the gradient's deviation (Graves 2013)."""

    name: Literal["rmsprop"]
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.99
    eps: Epsilon = 1e-8
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    centered: bool = False


class Lamb(Decaying):
    """LAMB (You et al. 2020), timm's: Adam's step, scaled to the tensor's norm where weights decay."""

    name: Literal["lamb"]
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Epsilon = 1e-6
    weight_decay: Decay = 0.01


class Lion(Decaying):
    """Lion (Chen et al. 2023), timm's: steps of one size by the sign of a momentum."""

    name: Literal["lion"]
    betas: Betas = Field(default=[0.9, 0.99])


Optimizer = Annotated[
    Annotated[Sgd, Tag("<sgd>")]
    | Annotated[Adam, Tag("<adam>")]
    | Annotated[AdamW, Tag("<adamw>")]
    | Annotated[RmsProp, Tag("<rmsprop>")]
    | Annotated[Lamb, Tag("<lamb>")]
    | Annotated[Lion, Tag("<lion>")],
    chosen_by("name", "sgd", "adam", "adamw", "rmsprop", "lamb", "lion"),
]
