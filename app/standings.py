"""Where an experiment stands: pure functions of its jobs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from app.comparison import Values, mean_and_std
from app.store.records import Trial
from app.store.states import ENDED, Status


@dataclass(frozen=True)
class Row:
    """A variant over its seeds. Only jobs that have succeeded count: the best of a run may still be to come.

    `values` has every seed of the experiment, None where no job of it counts. `std` is the sample standard
    deviation, `best_epoch` the mean global epoch of the best value, `seconds` the mean time of a job.
    """

    variant: str
    n: int
    mean: float | None
    std: float | None
    values: dict[int, float | None]
    best_epoch: float | None
    seconds: float | None
    failed: int


def overall(statuses: Iterable[Status]) -> Status:
    """The status of an experiment with jobs of these statuses.

    It runs from the first job's start to the last one's end; it has succeeded when all jobs have. One that no
    job is left of counts as cancelled.
    """
    found = set(statuses)
    if found <= ENDED:
        if Status.FAILED in found:
            return Status.FAILED
        return Status.SUCCEEDED if found == {Status.SUCCEEDED} else Status.CANCELLED
    return Status.QUEUED if found <= {Status.QUEUED, Status.PAUSED} else Status.RUNNING


def values_of(trials: Sequence[Trial], variants: Iterable[str]) -> dict[str, Values]:
    """Each variant's values by seed, of the jobs that have succeeded."""
    return {
        name: {
            trial.seed: trial.value
            for trial in trials
            if trial.variant == name and trial.status is Status.SUCCEEDED and trial.value is not None
        }
        for name in variants
    }


def table(trials: Sequence[Trial], values: Mapping[str, Values], seeds: Sequence[int]) -> list[Row]:
    """A row for each variant of `values_of`."""
    return [
        _row(name, [trial for trial in trials if trial.variant == name], values[name], seeds)
        for name in values
    ]


def seconds(trial: Trial) -> float | None:
    """How long a job took, from its start to its end; None where it has not had both."""
    if trial.started_at is None or trial.finished_at is None:
        return None
    return trial.finished_at - trial.started_at


def _row(name: str, trials: Sequence[Trial], values: Values, seeds: Sequence[int]) -> Row:
    mean, std = mean_and_std(list(values.values()))
    counted = [trial for trial in trials if trial.seed in values]
    epochs = [float(trial.best_epoch) for trial in counted if trial.best_epoch is not None]
    times = [time for trial in counted if (time := seconds(trial)) is not None]
    return Row(
        variant=name,
        n=len(values),
        mean=mean,
        std=std,
        values={seed: values.get(seed) for seed in seeds},
        best_epoch=fmean(epochs) if epochs else None,
        seconds=fmean(times) if times else None,
        failed=sum(trial.status is Status.FAILED for trial in trials),
    )
