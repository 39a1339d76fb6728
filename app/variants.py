"""From an experiment's request to its jobs: a spec for each variant and seed, or every problem at once."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.comparable import other_losses, same_runs
from app.errors import Invalid
from app.store.records import Json, NewTrial
from finetune.errors import FinetuneError
from finetune.spec import JobSpec, Problem, ResolvedSpec
from finetune.spec.base import CleanText
from finetune.spec.job import MetadataKey, MetadataValue
from finetune.spec.patches import apply_patch, patch_problems, sets
from finetune.spec.problems import problems_of


class Judge(Protocol):
    """What knows whether a job's spec can be run here: `app.catalog.Catalog`."""

    def check(self, body: Any) -> list[Problem]:
        """Every problem of a spec."""

    def resolve(self, spec: JobSpec) -> ResolvedSpec:
        """The spec with its recipe expanded and its defaults filled in."""

    def plan(self, spec: JobSpec) -> object:
        """Draws up a plan, for which data and weights are looked at."""


MOST_VARIANTS, MOST_SEEDS, LONGEST_NAME = 20, 50, 200
METRIC = "checkpoints.metric"
NOT_OF_A_BASE = {
    "seed": "the experiment's seeds set it; leave it out",
    "name": "jobs are named after the experiment and the variant; leave it out",
    "range_test": "an experiment compares runs that train; leave it out",
}


class VariantBody(BaseModel):
    """A variant: what it is called, and a merge patch (RFC 7396) of the experiment's spec."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=100)]
    patch: Annotated[Any, Field(json_schema_extra={"type": "object"})]


class ExperimentBody(BaseModel):
    """An experiment as a client sends it: each variant is trained once with each seed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Annotated[CleanText, StringConstraints(min_length=1, max_length=200)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] = Field(default_factory=dict)
    spec: Annotated[dict[str, Any], Field(description="A job's spec without a seed and a name.")]
    variants: Annotated[list[VariantBody], Field(min_length=1, max_length=MOST_VARIANTS)]
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, le=2**63 - 1)]], Field(min_length=1, max_length=MOST_SEEDS)
    ] = Field(default=[0, 1, 2])
    metric: Annotated[
        Annotated[CleanText, StringConstraints(min_length=1, max_length=64)] | None,
        Field(description="What is compared, by each job's best epoch; the variants' own unless said."),
    ] = None


@dataclass(frozen=True)
class Draft:
    """A sound experiment: its request, the metric that it compares, and its variants' specs in order."""

    body: ExperimentBody
    metric: str
    specs: Sequence[Json]
    resolved: Sequence[ResolvedSpec]

    def trials(self, experiment: str) -> list[NewTrial]:
        """The jobs, seed by seed: pairs that are to be compared end soon after each other.

        Args:
            experiment: what the jobs' names begin with.
        """
        made = []
        for seed in self.body.seeds:
            for variant, spec, resolved in zip(self.body.variants, self.specs, self.resolved, strict=True):
                suffix = f"/{variant.name}/{seed}"
                name = experiment[: LONGEST_NAME - len(suffix)] + suffix
                own = {"name": name, "seed": seed}
                made.append(
                    NewTrial(
                        variant=variant.name,
                        seed=seed,
                        name=name,
                        metadata=resolved.metadata,
                        priority=resolved.priority,
                        max_attempts=resolved.max_attempts,
                        spec=spec | own,
                        resolved_spec=resolved.model_copy(update=own).model_dump(mode="json"),
                    )
                )
        return made


def draft(body: Any, catalog: Judge) -> Draft:
    """The experiment that a request asks for.

    Args:
        body: the request's JSON.
        catalog: judges the specs of jobs.

    Raises:
        Invalid: with every problem. Those that the base spec has by itself are said once, as `spec.…`, the
            others as `variants.1.patch.…`.
    """
    patched = dict(_patched(body))
    problems = [
        *_own_problems(body),
        *_twice(body),
        *_of_the_base(body),
        *_of_the_patches(body),
        *_of_the_specs(body, patched, catalog),
    ]
    if problems:
        raise Invalid(problems)
    parsed, specs = ExperimentBody.model_validate(body), list(patched.values())
    resolved = [catalog.resolve(JobSpec.model_validate(spec)) for spec in specs]
    metric = parsed.metric or resolved[0].metric
    names = [variant.name for variant in parsed.variants]
    problems = [
        *_other_metrics(parsed, metric, resolved),
        *other_losses(names, metric, resolved),
        *same_runs(names, resolved),
    ]
    problems = problems or list(_unplannable(specs, catalog))
    if problems:
        raise Invalid(problems)
    return Draft(parsed, metric, specs, resolved)


def _own_problems(body: Any) -> list[Problem]:
    try:
        ExperimentBody.model_validate(body)
    except ValidationError as error:
        return problems_of(error, [*ExperimentBody.model_fields, *VariantBody.model_fields])
    return []


def _twice(body: Any) -> Iterator[Problem]:
    names = [variant.get("name") for variant in _variants(body)]
    for index, name in enumerate(names):
        if isinstance(name, str) and name in names[:index]:
            message = f"variants need different names; {name!r} stands twice"
            yield Problem(f"variants.{index}.name", message, "stands_twice")
    seeds = body.get("seeds") if isinstance(body, dict) else None
    numbers = [seed for seed in seeds if type(seed) is int] if isinstance(seeds, list) else []
    again = next((seed for seed, count in Counter(numbers).items() if count > 1), None)
    if again is not None:
        yield Problem("seeds", f"each seed stands once; {again} stands twice", "stands_twice")


def _of_the_base(body: Any) -> Iterator[Problem]:
    spec = body.get("spec") if isinstance(body, dict) else None
    for field, reason in NOT_OF_A_BASE.items():
        if isinstance(spec, dict) and field in spec:
            yield Problem(f"spec.{field}", reason, "not_of_an_experiment")


def _of_the_patches(body: Any) -> Iterator[Problem]:
    for index, variant in enumerate(_variants(body)):
        for problem in patch_problems(variant["patch"]) if "patch" in variant else ():
            yield _below(f"variants.{index}.patch", problem)


def _patched(body: Any) -> Iterator[tuple[int, Json]]:
    """Each variant's index and spec, of those that have a base spec and a sound patch."""
    if not isinstance(body, dict) or not isinstance(body.get("spec"), dict):
        return
    for index, variant in enumerate(_variants(body)):
        if "patch" in variant and not any(patch_problems(variant["patch"])):
            yield index, _with_metric(apply_patch(_base(body), variant["patch"]), body.get("metric"))


def _with_metric(spec: Json, metric: Any) -> Json:
    """The spec, which chooses its best epoch by the experiment's metric unless it says otherwise."""
    chosen = spec.get("checkpoints", {})
    if metric is None or not isinstance(chosen, dict) or "metric" in chosen:
        return spec
    return spec | {"checkpoints": {**chosen, "metric": metric}}


def _of_the_specs(body: Any, patched: Mapping[int, Json], catalog: Judge) -> Iterator[Problem]:
    found = {index: catalog.check(spec) for index, spec in patched.items()}
    if not any(found.values()):
        return
    base, variants = _base(body), _variants(body)
    of_base = set(catalog.check(base))
    said = set()
    for index, problems in found.items():
        for problem in problems:
            set_here = problem.param is not None and sets(variants[index]["patch"], problem.param)
            in_base = problem in of_base or (problem.param is not None and sets(base, problem.param))
            if problem.param == METRIC and not set_here and not sets(base, METRIC):
                located = Problem("metric", problem.message, problem.code)
            elif in_base and not set_here:
                located = _below("spec", problem)
            else:
                located = _below(f"variants.{index}.patch", problem)
            if located not in said:
                yield located
            said.add(located)


def _below(path: str, problem: Problem) -> Problem:
    """The problem with the path of what the client wrote."""
    param = f"{path}.{problem.param}" if problem.param else path
    return Problem(param, problem.message, problem.code)


def _other_metrics(body: ExperimentBody, metric: str, specs: Sequence[ResolvedSpec]) -> Iterator[Problem]:
    same = f"all variants need the same {METRIC}"
    of_base = False
    for index, (variant, spec) in enumerate(zip(body.variants, specs, strict=True)):
        own = spec.metric
        if own == metric:
            continue
        if body.metric is None:
            reason = f"variant {body.variants[0].name!r} by {metric}"
        elif sets(variant.patch, METRIC):
            reason = f"the experiment compares {metric}"
        else:  # said once, whatever the variant
            of_base = True
            continue
        message = f"variant {variant.name!r} chooses its best epoch by {own}, {reason}: {same}"
        yield Problem(f"variants.{index}.patch", message, "other_metric")
    if of_base:
        message = f"the spec says another {METRIC}; leave one of the two out: {same}"
        yield Problem("metric", message, "other_metric")


def _unplannable(specs: Sequence[Json], catalog: Judge) -> Iterator[Problem]:
    """What only a look at data and weights tells, each problem once."""
    said = set()
    for index, spec in enumerate(specs):
        try:
            catalog.plan(JobSpec.model_validate(spec))
        except FinetuneError as error:
            if error.message not in said:
                yield _below(f"variants.{index}.patch", Problem(error.param, error.message, error.code))
            said.add(error.message)


def _base(body: Any) -> Json:
    """The base spec, without what it must not have."""
    spec = body.get("spec") if isinstance(body, dict) else None
    return {key: spec[key] for key in spec if key not in NOT_OF_A_BASE} if isinstance(spec, dict) else {}


def _variants(body: Any) -> list[Json]:
    """The variants, as many as there may be; an entry that is no object is an empty one."""
    listed = body.get("variants") if isinstance(body, dict) else None
    listed = listed[:MOST_VARIANTS] if isinstance(listed, list) else []
    return [variant if isinstance(variant, dict) else {} for variant in listed]
