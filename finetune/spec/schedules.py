"""Learning-rate schedules as data. What they are worth at a step is in `finetune.lr`."""

from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from finetune.spec.base import Epochs, Factor, ModuleName, Part, Rate, chosen_by

Exponent = Annotated[float, Field(ge=-30, le=6)]


class Constant(Part):
    """The same rate in every epoch."""

    name: Literal["constant"]
    lr: Rate


def _entry_tag(value: Any) -> str:
    return "<pair>" if isinstance(value, list | tuple) else "<value>"


Pair = Annotated[list[Rate], Field(min_length=2, max_length=2, description="[rate, number of epochs]")]
Entry = Annotated[Annotated[Rate, Tag("<value>")] | Annotated[Pair, Tag("<pair>")], Discriminator(_entry_tag)]


class Listed(Part):
    """One rate an epoch, or `[rate, epochs]` pairs."""

    name: Literal["list"]
    values: list[Entry] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _whole_epochs(self) -> "Listed":
        for entry in self.values:
            if isinstance(entry, list) and not (entry[1].is_integer() and entry[1] >= 1):
                raise ValueError(f"a pair is [rate, epochs] with whole epochs of at least 1, not {entry}")
        return self

    @cached_property
    def ends(self) -> list[int]:
        """After how many epochs each entry's have gone by."""
        return list(accumulate(int(entry[1]) if isinstance(entry, list) else 1 for entry in self.values))

    @property
    def length(self) -> int:
        """For how many epochs there are values."""
        return self.ends[-1]


class Logspace(Part):
    """`num` rates (the stage's epochs unless said) evenly spaced between 10^start and 10^stop."""

    name: Literal["logspace"]
    start: Exponent
    stop: Exponent
    num: Epochs | None = None


class Step(Part):
    """The rate is multiplied by gamma every `every` epochs."""

    name: Literal["step"]
    lr: Rate
    every: Epochs
    gamma: Factor


class MultiStep(Part):
    """The rate is multiplied by gamma after each of the milestones (numbers of epochs)."""

    name: Literal["multistep"]
    lr: Rate
    milestones: list[Epochs] = Field(min_length=1, max_length=1000)
    gamma: Factor

    @model_validator(mode="after")
    def _ascending(self) -> "MultiStep":
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError("milestones must ascend")
        return self


class Exponential(Part):
    """The rate is multiplied by gamma after every epoch."""

    name: Literal["exponential"]
    lr: Rate
    gamma: Factor


class Linear(Part):
    """From lr to end_lr in a straight line over the stage's steps."""

    name: Literal["linear"]
    lr: Rate
    end_lr: Rate


class Cosine(Part):
    """From lr to end_lr along half a cosine over the stage's steps (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"]
    lr: Rate
    end_lr: Rate


class Polynomial(Part):
    """From lr to end_lr, the distance shrinking with (1 - progress)^power."""

    name: Literal["polynomial"]
    lr: Rate
    end_lr: Rate
    power: Annotated[float, Field(gt=0, le=100)]


class OneCycle(Part):
    """Up from max_lr / div to max_lr, then down to that start / final_div (Smith and Topin 2018)."""

    name: Literal["one_cycle"]
    max_lr: Rate
    pct_start: Annotated[float, Field(ge=0, le=1)] = 0.3
    div: Annotated[float, Field(ge=1, le=1e9)] = 25.0
    final_div: Annotated[float, Field(ge=1, le=1e9)] = 1e4


Schedule = Annotated[
    Annotated[Constant, Tag("<constant>")]
    | Annotated[Listed, Tag("<list>")]
    | Annotated[Logspace, Tag("<logspace>")]
    | Annotated[Step, Tag("<step>")]
    | Annotated[MultiStep, Tag("<multistep>")]
    | Annotated[Exponential, Tag("<exponential>")]
    | Annotated[Linear, Tag("<linear>")]
    | Annotated[Cosine, Tag("<cosine>")]
    | Annotated[Polynomial, Tag("<polynomial>")]
    | Annotated[OneCycle, Tag("<one_cycle>")],
    chosen_by(
        "name",
        *("constant", "list", "logspace", "step", "multistep", "exponential"),
        *("linear", "cosine", "polynomial", "one_cycle"),
    ),
]


class GroupFactor(Part):
    """Modules whose parameters make one group, and the factor on the schedule's rate."""

    modules: list[ModuleName] = Field(min_length=1, max_length=1000)
    factor: Factor


class LrPlan(Part):
    """A stage's rates: rate of a group = schedule value × the group's factor."""

    schedule: Schedule
    factors: list[GroupFactor] = Field(default_factory=list, max_length=1000)
    default_factor: Factor = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    warmup_epochs: Annotated[float, Field(ge=0, le=10_000)] = 0.0

    @model_validator(mode="after")
    def _one_kind_of_factors(self) -> "LrPlan":
        if self.layer_decay is not None and (self.factors or self.default_factor != 1.0):
            raise ValueError("layer_decay stands instead of factors and default_factor, not beside them")
        return self
