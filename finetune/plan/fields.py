"""The fields of a plan."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from finetune.head import Action
from finetune.plan.blocks import State


class PlanPart(BaseModel):
    """A part of a plan."""

    model_config = ConfigDict(frozen=True)


class FrozenModule(PlanPart):
    """A frozen module and the parameters in it."""

    module: str
    parameters: int


class PlannedGroup(PlanPart):
    """A parameter group: where its tensors are and what its rate is multiplied with."""

    name: str
    modules: list[str]
    tensors: int
    parameters: int
    factor: float
    weight_decay: float


class EpochRates(PlanPart):
    """Each group's learning rate at the first and at the last step of an epoch (from 1)."""

    epoch: int
    first: dict[str, float]
    last: dict[str, float]


class PlannedFeatures(PlanPart):
    """What is computed once: what the network gives `before` a module, for the views of these images.

    `bytes` are as many as there may be in the job's precision, `kept` in "memory" or on "disk". `saving` is
    the share of the stage's multiply-adds that is not done again in each epoch.
    """

    before: str
    views: int
    train_images: int
    val_images: int
    bytes: int
    kept: Literal["memory", "disk"]
    saving: float


class PlannedStage(PlanPart):
    """What a stage does; `blocks` with each of the plan's blocks."""

    name: str
    epochs: int
    steps_per_epoch: int
    batch_norm: str
    augmentation: str
    optimizer: str
    features_once: bool
    compile: Literal["auto", "on", "off"] = "auto"
    features: PlannedFeatures | None
    frozen: list[FrozenModule]
    blocks: list[State]
    frozen_parameters: int
    trained_parameters: int
    options: list[str]
    groups: list[PlannedGroup]
    lr: list[EpochRates]


class PlannedHead(PlanPart):
    """What becomes of the head: of which classes its rows are kept, and of which they are new."""

    modules: list[str]
    action: Action
    reason: str
    classes: int
    outputs: int | None
    kept: list[str]
    new: list[str]


class StoredImages(PlanPart):
    """How decoded images of a split are kept: at which short side in pixels, and about how many bytes.

    Both are null where they are kept as they are: no image is opened for a plan.
    """

    split: Literal["train", "val"]
    short_side: int | None
    bytes: int | None


class PlannedBlock(PlanPart):
    """A block of the network, from the input to the head.

    A stage with `{"policy": "before", "module": boundary}` freezes the blocks before it. Null: there are none
    before it.
    """

    name: str
    parameters: int
    boundary: str | None
    head: bool


class Plan(PlanPart):
    """A spec's plan."""

    object: Literal["fine_tuning.plan"] = "fine_tuning.plan"
    backbone: dict[str, Any]
    objective: str
    metric: str
    classes: list[str]
    images: dict[str, int]
    head: PlannedHead
    preprocessing: dict[str, Any]
    training_preprocessing: dict[str, Any]
    stored: list[StoredImages]
    blocks: list[PlannedBlock]
    stages: list[PlannedStage]
    warnings: list[str]
