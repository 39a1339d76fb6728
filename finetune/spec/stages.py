"""A stage as data: what is frozen, at which rates the rest is trained, and on which views of the images."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.augmentations import Augmentation, Mix, NoAugmentation
from finetune.spec.base import CleanText, Epochs, ModuleName, Part, chosen_by
from finetune.spec.objectives import Metric
from finetune.spec.optimizers import Optimizer, Sgd
from finetune.spec.schedules import Listed, Logspace, LrPlan, OneCycle

MOST_ACCUMULATED = 10_000  # batches


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


class EarlyStopping(Part):
    """The stage ends after `patience` epochs without a better value of the metric."""

    metric: Metric = "val_loss"
    patience: Epochs = 5


class Ema(Part):
    """An exponential moving average of the weights, evaluated beside them after each epoch.

    After each step: average ← decay · average + (1 - decay) · weights. It starts with the stage.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99


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
    mix: Mix | None = Field(default=None, description="mixup or cutmix, on top of the augmentation.")
    sampler: Literal["shuffle", "balanced"] = Field(
        default="shuffle",
        description="Every image once an epoch, or every class equally often, its images in turn.",
    )
    accumulate: Annotated[int, Field(ge=1, le=MOST_ACCUMULATED)] = Field(
        default=1, description="Batches whose gradients make one step."
    )
    ema: Ema | None = None
    early_stopping: EarlyStopping | None = None
    restore: Literal["last", "best"] = Field(
        default="last", description="With which of this stage's weights the next one begins."
    )
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9)] | None = None
    gradient_checkpointing: bool = Field(
        default=False, description="Keep less for the backward pass and compute it again: slower, smaller."
    )
    features_once: bool = Field(
        default=True,
        description="Compute what the frozen part gives once for each image and view, where one can.",
    )
    feature_views: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="With random augmentation: draw so many views of each image, and compute their features "
        "once; epochs take them in turn. Null: each epoch draws anew.",
    )

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
