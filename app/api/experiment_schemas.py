"""What the API answers about experiments."""

from collections import Counter
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, Field

from app import standings, verdict
from app.comparison import compare
from app.store.records import Experiment, Trial
from app.store.states import ENDED, Status


class VariantAnswer(BaseModel):
    """A variant as it was sent."""

    name: str
    patch: dict[str, Any]


class TrialAnswer(BaseModel):
    """A job of an experiment. `value` is the best so far, `best_epoch` that one's global epoch."""

    id: str
    variant: str
    seed: int
    status: Status
    value: float | None
    best_epoch: int | None
    seconds: float | None = Field(description="From its start to its end.")


class RowAnswer(BaseModel):
    """A variant over its seeds. Only jobs that have succeeded count."""

    variant: str
    n: int = Field(description="Seeds that count.")
    mean: float | None
    std: float | None = Field(description="The sample standard deviation.")
    values: dict[int, float | None] = Field(description="By seed.")
    best_epoch: float | None = Field(description="The mean global epoch of the best value.")
    seconds: float | None = Field(description="The mean time of a job.")
    failed: int


class ComparisonAnswer(BaseModel):
    """Two variants over the seeds that count for both; differences are `a` minus `b`."""

    a: str
    b: str
    n: int
    mean_difference: float | None
    std_difference: float | None
    p_value: float | None
    p_adjusted: float | None = Field(description="Corrected for the number of pairs.")
    differs: bool = Field(description="By more than the noise.")


class ExperimentAnswer(BaseModel):
    """An experiment: where it stands, and what it says by now. Times are Unix seconds."""

    object: Literal["experiment"] = "experiment"
    id: str
    name: str | None
    metadata: dict[str, str]
    owner: str | None = Field(description="Whose it is: the owner of the key that it was made with.")
    created_at: float
    status: Literal[Status.QUEUED, Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]
    progress: dict[Status, int] = Field(description="How many jobs there are by status.")
    spec: dict[str, Any]
    variants: list[VariantAnswer]
    seeds: list[int]
    metric: str
    jobs: list[TrialAnswer] = Field(
        description="One for each seed and variant: the newest, if it was retried."
    )
    table: list[RowAnswer]
    comparisons: list[ComparisonAnswer]
    test: str = Field(description="How the variants are compared.")
    answer: str = Field(description="What can be said by now, in a sentence.")

    @classmethod
    def of(cls, experiment: Experiment, trials: list[Trial]) -> "ExperimentAnswer":
        """A stored experiment with the jobs that count."""
        names = [variant["name"] for variant in experiment.variants]
        values = standings.values_of(trials, names)
        comparisons = compare(values)
        statuses = Counter(trial.status for trial in trials)
        ended = sum(statuses[status] for status in ENDED)
        computed = {
            "status": standings.overall(statuses),
            "progress": {status: statuses[status] for status in Status},
            "jobs": [{**asdict(trial), "seconds": standings.seconds(trial)} for trial in trials],
            "table": [asdict(row) for row in standings.table(trials, values, experiment.seeds)],
            "comparisons": [asdict(comparison) for comparison in comparisons],
            "test": verdict.method(len(names)),
            "answer": verdict.answer(experiment.metric, values, comparisons, ended, len(trials)),
        }
        own = {name: getattr(experiment, name) for name in cls.model_fields if hasattr(experiment, name)}
        return cls.model_validate(own | computed | {"owner": experiment.owner or None})
