"""The job spec: everything that decides what a run does."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.base import MAX_RATE, CleanText, Fraction, Part, RelativePath
from finetune.spec.objectives import METRICS, CrossEntropy, Metric, Objective, Triplet
from finetune.spec.recipes import Recipe, TripletRecipe
from finetune.spec.stages import StageSpec

MOST_STAGES = 64
MetadataKey = Annotated[CleanText, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[CleanText, StringConstraints(max_length=512)]
WeightsName = Annotated[CleanText, StringConstraints(min_length=1, max_length=200)]


class DatasetSpec(Part):
    """Where the images are, and what becomes of files with problems.

    `val_fraction` (0.2 unless said) is held out only where the dataset has no val split. `on_problem` null:
    files that cannot be decoded fail the job, other problems are warnings. "fail": placeholders and copies of
    validation images fail it, too. "skip": it trains without all of these files.
    """

    path: RelativePath
    val_fraction: Fraction | None = None
    on_problem: Literal["fail", "skip"] | None = None


class FileWeights(Part):
    """A safetensors file below the weights root."""

    file: RelativePath


class JobWeights(Part):
    """A checkpoint of an earlier job: its id, `best` or `last`."""

    job: Annotated[CleanText, StringConstraints(min_length=1, max_length=100)]
    checkpoint: Annotated[CleanText, StringConstraints(min_length=1, max_length=100)] = "best"


def _weights_tag(value: Any) -> str:
    if value is None:
        return "<null>"
    if isinstance(value, str):
        return "<name>"
    return (
        "<job>" if isinstance(value, JobWeights) or (isinstance(value, dict) and "job" in value) else "<file>"
    )


Weights = Annotated[
    Annotated[WeightsName, Tag("<name>")]
    | Annotated[None, Tag("<null>")]
    | Annotated[FileWeights, Tag("<file>")]
    | Annotated[JobWeights, Tag("<job>")],
    Discriminator(_weights_tag),
]


class BackboneSpec(Part):
    """A network by name and what it starts from: a weights name, null (random), a file, or a job."""

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=200)]
    weights: Weights = "DEFAULT"


class HeadSpec(Part):
    """The classifier: `auto` keeps what it knows of classes with the same name, `never` replaces it whole."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    keep: Literal["auto", "never"] = "auto"


ImageSize = Annotated[int, Field(ge=8, le=4096)]


class PreprocessingSpec(Part):
    """Where the images' preparation is to differ from what the weights expect.

    `train_size`: side of the training views in pixels, `image_size` unless said. `eval_resize`: what
    evaluation resizes the short side to before it takes the centre. `stored`: decoded images are kept
    "resized" to what the views need, or as they are. Random crops of "original" images are a little sharper.
    """

    train_size: ImageSize | None = None
    eval_resize: ImageSize | None = None
    stored: Literal["resized", "original"] = "resized"


class CheckpointSpec(Part):
    """How many checkpoints are kept, by which metric the best is chosen, and whose weights they hold.

    `metric` null is the objective's first: val_accuracy, val_map or val_recall@1. With `weights` "ema" they
    hold the moving average where a stage has one, and its figures choose the best. With `every_steps` a state
    is saved within epochs, too, after each so many steps: a job that loses its worker repeats fewer.
    """

    keep_last: Annotated[int, Field(ge=1, le=1000)] = 1
    keep_best: Annotated[int, Field(ge=1, le=1000)] = 1
    metric: Metric | None = None
    weights: Literal["raw", "ema"] = "raw"
    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None


class RangeTest(Part):
    """A search for a learning rate instead of training (Smith 2017).

    The first stage's rate grows from `start_lr` to `end_lr` over `steps` steps, evenly on a log scale.
    """

    start_lr: Annotated[float, Field(gt=0, le=MAX_RATE)] = 1e-6
    end_lr: Annotated[float, Field(gt=0, le=MAX_RATE)] = 1.0
    steps: Annotated[int, Field(ge=10, le=10_000)] = 100

    @field_validator("end_lr")
    @classmethod
    def _ascending(cls, end_lr: float, info: ValidationInfo) -> float:
        if end_lr <= info.data.get("start_lr", 0.0):
            raise ValueError("must be above start_lr")
        return end_lr


class JobSpec(Part):
    """A job as a client sends it."""

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=200)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = Field(default_factory=dict)
    dataset: DatasetSpec
    backbone: BackboneSpec
    head: HeadSpec = Field(default=HeadSpec())
    objective: Objective | None = Field(
        default=None, description="cross_entropy unless said; triplet with the recipe of that name."
    )
    recipe: Recipe | None = None
    stages: Annotated[list[StageSpec], Field(min_length=1, max_length=MOST_STAGES)] | None = Field(
        default=None, validate_default=True
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    image_size: ImageSize | None = None
    preprocessing: PreprocessingSpec = Field(default=PreprocessingSpec())
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="torch.compile of the training network. auto: where the steps repay it on this machine.",
    )
    fold_batch_norm: bool = Field(
        default=True,
        description="In bf16 and fp16, make the frozen part's BatchNorms a part of its convolutions, where "
        "features are computed once: faster, equal but for rounding.",
    )
    checkpoints: CheckpointSpec = Field(default=CheckpointSpec())
    on_oom: Literal["fail", "halve_batch"] = Field(
        default="fail",
        description="What becomes of a job whose steps do not fit into memory. halve_batch: its worker tries "
        "once more with half the batch_size and twice the accumulate, which make the same steps.",
    )
    range_test: RangeTest | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3

    @field_validator("recipe")
    @classmethod
    def _fits_the_objective(cls, recipe: Recipe | None, info: ValidationInfo) -> Recipe | None:
        other = type(info.data.get("objective")) not in (Triplet, type(None))
        if isinstance(recipe, TripletRecipe) and other:
            raise ValueError("trains with the objective triplet: leave the other objective out")
        return recipe

    @field_validator("stages")
    @classmethod
    def _stages_or_recipe(
        cls, stages: list[StageSpec] | None, info: ValidationInfo
    ) -> list[StageSpec] | None:
        # A recipe that is itself wrong is absent from info.data; its own problem is reported, not this one.
        if "recipe" in info.data:
            recipe = info.data["recipe"]
            if stages is None and recipe is None:
                raise ValueError("a job needs stages, or a recipe that stands for them")
            if stages is not None and recipe is not None:
                raise ValueError("a recipe stands instead of stages: give one of the two")
        names = Counter(stage.name for stage in stages or () if stage.name is not None)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"stages need different names; {twice[0]!r} stands twice")
        return stages


def objective_of(objective: Any, recipe: Any) -> Any:
    """The objective that a spec means where it says none."""
    if objective is not None:
        return objective
    return Triplet(name="triplet") if isinstance(recipe, TripletRecipe) else CrossEntropy()


class ResolvedSpec(JobSpec):
    """A spec with its recipe expanded and every default filled in: what a run obeys, and what is stored."""

    recipe: None = Field(default=None, exclude=True)
    objective: Objective
    stages: Annotated[list[StageSpec], Field(min_length=1)]

    @property
    def metric(self) -> str:
        """By what the best checkpoint is chosen."""
        return self.checkpoints.metric or METRICS[type(self.objective)][0]
