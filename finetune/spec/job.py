"""The job spec: everything that decides what a run does."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, field_validator
from pydantic_core.core_schema import ValidationInfo

from finetune.spec.base import CleanText, Fraction, Part, RelativePath
from finetune.spec.objectives import CrossEntropy, Objective
from finetune.spec.recipes import Recipe
from finetune.spec.stages import StageSpec

MetadataKey = Annotated[CleanText, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[CleanText, StringConstraints(max_length=512)]
WeightsName = Annotated[CleanText, StringConstraints(min_length=1, max_length=200)]


class DatasetSpec(Part):
    """Where the images are; `val_fraction` (0.2 unless said) only where the dataset has no val split."""

    path: RelativePath
    val_fraction: Fraction | None = None


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
    """The classifier: `auto` keeps it when the class names are the same, `never` always replaces it."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    keep: Literal["auto", "never"] = "auto"


class CheckpointSpec(Part):
    """How many checkpoints are kept, and by which metric the best is chosen."""

    keep_last: Annotated[int, Field(ge=1, le=1000)] = 1
    keep_best: Annotated[int, Field(ge=1, le=1000)] = 1
    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy"


class JobSpec(Part):
    """A job as a client sends it."""

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=200)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = Field(default_factory=dict)
    dataset: DatasetSpec
    backbone: BackboneSpec
    head: HeadSpec = Field(default=HeadSpec())
    objective: Objective = Field(default=CrossEntropy())
    recipe: Recipe | None = None
    stages: Annotated[list[StageSpec], Field(min_length=1, max_length=64)] | None = Field(
        default=None, validate_default=True
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoints: CheckpointSpec = Field(default=CheckpointSpec())
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3

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


class ResolvedSpec(JobSpec):
    """A spec with its recipe expanded and every default filled in: what a run obeys, and what is stored."""

    recipe: None = Field(default=None, exclude=True)
    stages: Annotated[list[StageSpec], Field(min_length=1)]
