"""Recipes as data: few numbers that stand for stages. What they expand into is in `finetune.recipes`."""

from typing import Annotated, Literal

from pydantic import Field, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.augmentations import Augmentation, Standard
from finetune.spec.base import MAX_RATE, Epochs, Factor, Part, Rate, chosen_by


class Thawing(Part):
    """What recipes share that train more than the head: what such stages see of the images."""

    augmentation: Augmentation = Field(default=Standard(name="standard"))


class TwoStage(Thawing):
    """The head alone at the larger rate, then everything at the smaller one."""

    name: Literal["two_stage"]
    head_epochs: Epochs = 60
    full_epochs: Epochs = 12
    head_lr: Rate = 0.01
    full_lr: Rate = 3e-4


class Joint(Thawing):
    """Everything at once, the head's rate larger."""

    name: Literal["joint"]
    epochs: Epochs = 15
    lr: Rate = 1e-3
    head_factor: Factor = 10.0


class LinearProbe(Part):
    """The head alone, on plain views: what the features are worth as they are."""

    name: Literal["linear_probe"]
    epochs: Epochs = 100
    lr: Rate = 0.01


class Gradual(Thawing):
    """The head alone, then block after block from the head down, one stage each (Howard and Ruder 2018).

    `head_epochs` at `head_lr` for the head; then `block_epochs` for each further block, at a rate that falls
    from `lr` to zero over all these stages. With `most_stages` the blocks are thawed in at most so many
    stages, of equally many blocks.
    """

    name: Literal["gradual"]
    head_epochs: Epochs = 60
    block_epochs: Epochs = 1
    head_lr: Rate = 0.01
    lr: Rate = 3e-4
    most_stages: Annotated[int, Field(ge=1, le=63)] | None = None


class TripletRecipe(Thawing):
    """All layers together at a small stepped rate with the triplet objective.

    Each of `drops` is `[part of the epochs, factor]`: from there on the rate has that factor.
    """

    name: Literal["triplet"]
    epochs: Epochs = 10
    lr: Rate = 0.03
    drops: Annotated[
        list[Annotated[list[Factor], Field(min_length=2, max_length=2)]], Field(max_length=100)
    ] = Field(default=[[0.5, 0.1], [0.75, 0.01]])

    @field_validator("drops")
    @classmethod
    def _ascending_parts(cls, drops: list[list[float]], info: ValidationInfo) -> list[list[float]]:
        parts = [part for part, _ in drops]
        if parts != sorted(set(parts)) or any(not 0 < part < 1 for part in parts):
            raise ValueError("each drop is [part of the epochs between 0 and 1, factor], the parts ascending")
        if info.data.get("lr", 0.0) * max((factor for _, factor in drops), default=0.0) > MAX_RATE:
            raise ValueError(f"lr times a factor must not be above {MAX_RATE:g}")
        return drops


Recipe = Annotated[
    Annotated[TwoStage, Tag("<two_stage>")]
    | Annotated[Joint, Tag("<joint>")]
    | Annotated[LinearProbe, Tag("<linear_probe>")]
    | Annotated[Gradual, Tag("<gradual>")]
    | Annotated[TripletRecipe, Tag("<triplet>")],
    chosen_by("name", "two_stage", "joint", "linear_probe", "gradual", "triplet"),
]
