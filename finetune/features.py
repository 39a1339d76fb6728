"""Features once: which part of a stage's computing is the same in every epoch, and what keeping it takes.

What the part of the network that stands still gives is computed once for each image and view, and the
stage's epochs run over it: see `finetune.boundary` for where that part ends.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

from finetune.boundary import Boundary
from finetune.freezing import Freezing
from finetune.network import Blueprint
from finetune.spec.augmentations import Light, NoAugmentation
from finetune.spec.job import ResolvedSpec
from finetune.spec.stages import StageSpec
from finetune.still_part import NoBoundary, boundary_of

DEFAULT_MEMORY = 2 * 2**30  # bytes of features in memory; more are kept on the disk
LARGEST = 4  # times the numbers of an image; reading more than that costs what computing it does

Kept = Literal["memory", "disk"]


@dataclass(frozen=True)
class Room:
    """Bytes of features that a stage may keep in memory, and those that it may keep on the disk instead."""

    memory: int = DEFAULT_MEMORY
    disk: int = 0

    def place(self, size: int) -> Kept | None:
        """Where so many bytes go; None where there is no room for them."""
        if size <= self.memory:
            return "memory"
        return "disk" if size <= self.disk else None


@dataclass(frozen=True)
class Features:
    """What a stage computes once.

    `views` of each training image and one of each validation image; `size` in bytes, as many as there may be
    in the job's precision. `saving` is the share of the stage's multiply-adds that is not done again, from
    nothing in the cache; a backward pass counts as two forward ones.
    """

    boundary: Boundary
    views: int
    train_images: int
    val_images: int
    size: int
    kept: Kept
    saving: float


def features_of(
    spec: ResolvedSpec,
    stage: StageSpec,
    blueprint: Blueprint,
    freezing: Freezing,
    images: tuple[int, int],
    room: Room,
) -> Features | str:
    """What a stage on so many training and validation images computes once, or why nothing."""
    why_not = _why_not(stage)
    if why_not:
        return why_not
    backbone, built_for = blueprint.backbone, blueprint.preprocessing.crop
    side = blueprint.training_preprocessing.crop
    try:
        boundary = boundary_of(backbone, blueprint.head.outputs, built_for, side, freezing)
    except NoBoundary as error:
        return str(error)
    views, numbers = views_of(stage), prod(boundary.shape)
    saving = _saving(boundary, stage.epochs, views, images)
    if numbers > LARGEST * 3 * side**2:
        times = numbers / (3 * side**2)
        return f"the features before {boundary.before} are {times:.0f} times as large as the images"
    if saving < 0:
        return f"{views} views for {stage.epochs} epoch save nothing"
    width = 2 if spec.precision in ("bf16", "fp16") else 4
    size = width * numbers * (views * images[0] + images[1])
    kept = room.place(size)
    if kept is None:
        return too_large(size, room)
    return Features(boundary, views, *images, size, kept, saving)


def too_large(size: int, room: Room) -> str:
    """Why there is no room."""
    return f"too large: {_readable(size)} of features, budget {_readable(max(room.memory, room.disk))}"


def views_of(stage: StageSpec) -> int:
    """How many views of each training image a stage that computes them once has."""
    if isinstance(stage.augmentation, NoAugmentation):
        return 1
    if isinstance(stage.augmentation, Light):
        return 2
    assert stage.feature_views is not None, "each epoch has views of its own"
    return min(stage.feature_views, stage.epochs)


def _why_not(stage: StageSpec) -> str | None:
    """What in a stage itself makes its images new in each epoch."""
    if not stage.features_once:
        return "features_once is false"
    if stage.mix is not None:
        return f"{stage.mix.name} makes new images in each epoch"
    if not isinstance(stage.augmentation, NoAugmentation | Light) and stage.feature_views is None:
        return f"{stage.augmentation.name} draws new views in each epoch; feature_views keeps some"
    return None


def _saving(boundary: Boundary, epochs: int, views: int, images: tuple[int, int]) -> float:
    before, behind = boundary.prefix_cost, boundary.suffix_cost
    train, val = images
    anew = epochs * (train * (before + 3 * behind) + val * (before + behind))
    repeated = (epochs - views) * train * before + (epochs - 1) * val * before
    return repeated / anew if anew else 0.0


def _readable(size: int) -> str:
    """Bytes in a unit that makes them short."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}"
    return f"{size} bytes"
