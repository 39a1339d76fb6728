"""A stage as data: what is frozen, at which rates the rest is trained, and on which views of the images."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.base import CleanText, Epochs, ModuleName, Part, chosen_by
from finetune.spec.optimizers import Optimizer, Sgd
from finetune.spec.schedules import Listed, Logspace, LrPlan, OneCycle


class FreezeNone(Part):
    """Nothing is frozen."""

    policy: Literal["none"]


class FreezeBackbone(Part):
    """Everything but the head is frozen."""

    policy: Literal["backbone"]


class FreezeBefore(Part):
    """Every module registered before the named one is frozen: a boundary between layers."""

    policy: Literal["before"]
    module: ModuleName


class FreezeModules(Part):
    """The named modules are frozen; globs are allowed."""

    policy: Literal["modules"]
    modules: list[ModuleName] = Field(min_length=1, max_length=1000)


class FreezeExcept(Part):
    """Everything but the named modules is frozen; globs are allowed."""

    policy: Literal["except"]
    modules: list[ModuleName] = Field(min_length=1, max_length=1000)


Freeze = Annotated[
    Annotated[FreezeNone, Tag("<none>")]
    | Annotated[FreezeBackbone, Tag("<backbone>")]
    | Annotated[FreezeBefore, Tag("<before>")]
    | Annotated[FreezeModules, Tag("<modules>")]
    | Annotated[FreezeExcept, Tag("<except>")],
    chosen_by("policy", "none", "backbone", "before", "modules", "except"),
]


class NoAugmentation(Part):
    """Training sees what evaluation sees: the resized image's centre."""

    name: Literal["none"] = "none"


class Light(Part):
    """The resized image's centre, flipped from left to right half of the time."""

    name: Literal["light"]


class Standard(Part):
    """A random part of the image, resized, flipped half of the time (Szegedy et al. 2015).

    `crop_scale` is the smallest and the largest share of the image's area that a crop takes.
    """

    name: Literal["standard"]
    crop_scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)] = (
        Field(default=[0.35, 1.0])
    )

    @field_validator("crop_scale")
    @classmethod
    def _ascending(cls, scale: list[float]) -> list[float]:
        if scale[0] > scale[1]:
            raise ValueError("crop_scale is [smallest, largest]")
        return scale


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


AUGMENTATIONS = ("none", "light", "standard")
Augmentation = Annotated[
    Annotated[NoAugmentation, Tag("<none>")]
    | Annotated[Light, Tag("<light>")]
    | Annotated[Standard, Tag("<standard>")],
    chosen_by("name", *AUGMENTATIONS),
    BeforeValidator(
        _named,
        json_schema_input_type=Literal["none", "light", "standard"] | NoAugmentation | Light | Standard,
    ),
]


class EarlyStopping(Part):
    """The stage ends after `patience` epochs without a better value of the metric."""

    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    patience: Epochs = 5


class StageSpec(Part):
    """One stage of training."""

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=100)] | None = None
    epochs: Epochs
    freeze: Freeze = Field(default=FreezeNone(policy="none"))
    batch_norm: Literal["eval", "update"] = Field(
        default="eval", description="What BatchNorm in frozen modules does: nothing moves, or statistics do."
    )
    optimizer: Optimizer = Field(default=Sgd(name="sgd"))
    lr: LrPlan
    augmentation: Augmentation = Field(default=NoAugmentation())
    early_stopping: EarlyStopping | None = None
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9)] | None = None

    @field_validator("lr")
    @classmethod
    def _fits_the_epochs(cls, lr: LrPlan, info: ValidationInfo) -> LrPlan:
        """Holds the plan against the stage's epochs; runs even where another field of the stage is wrong."""
        epochs = info.data.get("epochs")
        if epochs is None:
            return lr
        schedule = lr.schedule
        length = schedule.length if isinstance(schedule, Listed) else None
        if isinstance(schedule, Logspace):
            length = schedule.num
        if length is not None and length < epochs:
            raise ValueError(f"the schedule has {length} values for {epochs} epochs: give one an epoch")
        if lr.warmup_epochs > epochs:
            raise ValueError(
                f"warmup_epochs ({lr.warmup_epochs:g}) is longer than the stage ({epochs} epochs)"
            )
        if lr.warmup_epochs and isinstance(schedule, OneCycle):
            raise ValueError("one_cycle warms up by itself: leave warmup_epochs out")
        return lr
