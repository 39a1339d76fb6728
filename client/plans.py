"""What the plan endpoint answers: what a spec would do, without training."""

from typing import Any

from pydantic import Field

from client.models import Answer


class PlannedBackbone(Answer):
    """The network that is trained."""

    name: str
    parameters: int


class PlannedImages(Answer):
    """How many images each split has."""

    train: int
    val: int


class StoredImages(Answer):
    """How decoded images of a split are kept; null where they are kept as they are."""

    split: str
    short_side: int | None = None
    bytes: int | None = None


class PlannedHead(Answer):
    """What becomes of the head, and why, and of which classes its rows are `kept` and `new`."""

    modules: list[str]
    action: str
    reason: str = ""
    classes: int | None = None
    outputs: int | None = None
    kept: list[str] = Field(default_factory=list)
    new: list[str] = Field(default_factory=list)


class FrozenModule(Answer):
    """A module that a stage does not train."""

    module: str
    parameters: int


class PlannedGroup(Answer):
    """Parameters that share a learning rate: the schedule's value times `factor`."""

    name: str
    modules: list[str]
    tensors: int
    parameters: int
    factor: float
    weight_decay: float | None = None


class PlannedRates(Answer):
    """Each group's learning rate at an epoch's first step and at its last one."""

    epoch: int
    first: dict[str, float]
    last: dict[str, float]


class PlannedFeatures(Answer):
    """What is computed once for each image and view, and what keeping it takes; `saving` is a share."""

    before: str
    views: int
    train_images: int
    val_images: int
    bytes: int
    kept: str
    saving: float


class PlannedStage(Answer):
    """One stage: what is frozen, what is trained, and at which rates."""

    name: str
    epochs: int
    steps_per_epoch: int | None = None
    batch_norm: str | None = None
    augmentation: str | None = None
    optimizer: str | None = None
    features_once: bool = False
    compile: str = "auto"
    features: PlannedFeatures | None = None
    frozen: list[FrozenModule] = Field(default_factory=list)
    frozen_parameters: int = 0
    trained_parameters: int = 0
    options: list[str] = Field(default_factory=list)
    groups: list[PlannedGroup] = Field(default_factory=list)
    lr: list[PlannedRates] = Field(default_factory=list)


class Plan(Answer):
    """What a spec would do."""

    backbone: PlannedBackbone
    objective: str | None = None
    metric: str | None = None
    classes: list[str] = Field(default_factory=list)
    images: PlannedImages | None = None
    head: PlannedHead | None = None
    preprocessing: dict[str, Any] | None = None
    training_preprocessing: dict[str, Any] | None = None
    stored: list[StoredImages] = Field(default_factory=list)
    stages: list[PlannedStage]
    warnings: list[str] = Field(default_factory=list)
