"""The job spec, strict, without torch: `parse` a request's JSON into a `JobSpec`, `resolve` it for a run."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from finetune.spec.base import Part
from finetune.spec.job import (
    BackboneSpec,
    CheckpointSpec,
    DatasetSpec,
    FileWeights,
    HeadSpec,
    JobSpec,
    JobWeights,
    ResolvedSpec,
)
from finetune.spec.objectives import CrossEntropy, Triplet
from finetune.spec.problems import Problem, closest, problems_of
from finetune.spec.stages import StageSpec

__all__ = [
    "BackboneSpec",
    "CheckpointSpec",
    "CrossEntropy",
    "DatasetSpec",
    "FileWeights",
    "HeadSpec",
    "JobSpec",
    "JobWeights",
    "Problem",
    "ResolvedSpec",
    "StageSpec",
    "Triplet",
    "closest",
    "find_problems",
    "parse_part",
]

AnyPart = TypeVar("AnyPart", bound=BaseModel)


def find_problems(body: Any) -> list[Problem]:
    """Every problem that the fields of a request have by themselves, without a look at data or networks."""
    try:
        JobSpec.model_validate(body)
    except ValidationError as error:
        return problems_of(error, _field_names(Part))
    return []


def parse_part(model: type[AnyPart], body: Any, *path: str | int) -> AnyPart | None:
    """One part of a request by itself, or None where it is absent or wrong.

    Lets further checks speak about the sound parts of a spec that has a problem elsewhere.
    """
    for key in path:
        try:
            body = body[key]
        except (KeyError, IndexError, TypeError):
            return None
    try:
        return model.model_validate(body)
    except ValidationError:
        return None


def _field_names(part: type[BaseModel]) -> Iterator[str]:
    yield from part.model_fields
    for child in part.__subclasses__():
        yield from _field_names(child)
