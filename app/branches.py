"""Branches: jobs that start from a checkpoint of another job, with a plan of their own for what follows."""

from collections.abc import Iterator
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.errors import Invalid
from app.store.records import Checkpoint, Job, Json
from finetune.spec import JobSpec, Problem, ResolvedSpec
from finetune.spec.base import CleanText
from finetune.spec.patches import apply_patch
from finetune.spec.problems import problems_of


class Judge(Protocol):
    """What knows whether a job's spec can be run here: `app.catalog.Catalog`."""

    def check(self, body: Any) -> list[Problem]:
        """Every problem of a spec."""

    def resolve(self, spec: JobSpec) -> ResolvedSpec:
        """The spec with its recipe expanded and its defaults filled in."""


class BranchBody(BaseModel):
    """A branch as a client sends it: where it starts, and in what its spec differs from the job's."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    checkpoint: Annotated[
        Annotated[CleanText, StringConstraints(min_length=1, max_length=100)],
        Field(description="The job's checkpoint to start from: its id, `best` or `last`."),
    ] = "best"
    patch: Annotated[
        dict[str, Any],
        Field(
            description="A merge patch (RFC 7396) of the job's spec, with the `stages` or the `recipe` that "
            "follow. Whatever else it does not say is as in the job."
        ),
    ]


def read_branch(body: Any) -> BranchBody:
    """The branch that a request asks for.

    Raises:
        Invalid: with every problem that it has by itself.
    """
    try:
        branch = BranchBody.model_validate(body)
    except ValidationError as error:
        raise Invalid(problems_of(error, BranchBody.model_fields)) from error
    problems = list(_of_the_patch(branch.patch))
    if problems:
        raise Invalid(problems)
    return branch


def draft_branch(branch: BranchBody, job: Job, checkpoint: Checkpoint, catalog: Judge) -> tuple[Json, Json]:
    """The spec of a branch, and the resolved one.

    Args:
        branch: a sound request.
        job: whose checkpoint it starts from.
        checkpoint: the one that the request names.
        catalog: judges the specs of jobs.

    Raises:
        Invalid: with every problem, as `patch.…`: the patch can mend those of the job's own spec, too.
    """
    spec = _patched(_start(job, checkpoint, branch.patch), branch.patch)
    problems = catalog.check(spec)
    if problems:
        raise Invalid([Problem(_in_patch(p.param), p.message, p.code) for p in problems])
    return spec, catalog.resolve(JobSpec.model_validate(spec)).model_dump(mode="json")


def _of_the_patch(patch: Json) -> Iterator[Problem]:
    if "backbone" in patch:
        message = "a branch goes on with the network of its checkpoint; leave it out"
        yield Problem("patch.backbone", message, "not_of_a_branch")
    if patch.get("stages") is None and patch.get("recipe") is None:
        message = "a branch needs a plan for what follows: give it stages or a recipe"
        yield Problem("patch", message, "no_plan")


def _start(job: Job, checkpoint: Checkpoint, patch: Json) -> Json:
    """The job's spec, as it is at the checkpoint: with its weights, its head and its objective."""
    weights = {"job": job.id, "checkpoint": checkpoint.id}
    spec: Json = {**job.spec, "backbone": {**job.spec["backbone"], "weights": weights}}
    if "head" in spec:  # "never" was for the weights that the job began with; these have the job's own head
        spec["head"] = {name: value for name, value in spec["head"].items() if name != "keep"}
    # Said by the job's recipe, perhaps, which the patch takes away; another recipe may say it anew.
    recipe = patch.get("recipe")
    if not (isinstance(recipe, dict) and recipe.get("name") == "triplet"):
        spec["objective"] = job.resolved_spec["objective"]
    else:
        spec.pop("objective", None)
    return spec


def _patched(spec: Json, patch: Json) -> Json:
    """The spec with the patch applied. A `name` says what kind of thing a part is, but not of a job."""
    own = {field: patch[field] for field in ("name", "metadata") if field in patch}
    patched: Json = apply_patch(spec, {field: value for field, value in patch.items() if field not in own})
    if isinstance(own.get("metadata"), dict):
        pairs = {**spec.get("metadata", {}), **own["metadata"]}
        own["metadata"] = {key: value for key, value in pairs.items() if value is not None}
    return {
        field: value for field, value in {**patched, **own}.items() if field not in own or value is not None
    }


def _in_patch(param: str | None) -> str:
    return f"patch.{param}" if param else "patch"
