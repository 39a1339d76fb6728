"""Thaw as a service: a real server and a warm worker, and a job over HTTP.

Options: patches of the `spec` and of its stages (see `benchmarks.specs`); `settings`, environment variables
of the service; `again`, the name of the row of the same job submitted once more, with what the first has left
in the caches; `eight`, whether it is an experiment of eight jobs that differ in the head's learning rate.
"""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.images import lay_out
from benchmarks.records import Record
from benchmarks.serving import served
from benchmarks.specs import spec_of, unknown
from benchmarks.work import Task, Work
from client.api import ThawClient
from client.experiments import Experiment
from client.models import Job

RATES = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03)  # of the eight jobs' heads
LOOK = 0.2  # seconds between two looks at an experiment
FIRST = "first"  # a dataset of a few images, for a job that warms the service up


def main() -> None:
    """Does the task and tells what it took."""
    task = Task.read()
    record = Record(task.row)
    spec = spec_of(task.work, task.options)
    record.skipped = unknown(spec)
    if record.skipped is None:
        with served(Path(task.folder), _settings(task)) as client:
            _warm_up(client, task)
            if task.options.get("eight"):
                _measure_eight(client, spec, task.work, record)
            else:
                _measure(client, spec, task, record)
            if "again" in task.options:
                record.tell()
                record = Record(task.options["again"])
                _measure(client, spec, task, record)
    record.tell()


def _settings(task: Task) -> dict[str, str]:
    work = task.work
    own = {"THAW_BACKBONES": work.network} if ":" in work.network else {}
    return {
        "THAW_DATA_DIR": str(Path(work.data).parent),
        "THAW_WEIGHTS_DIR": str(Path(work.weights).parent if work.weights else task.folder),
        **own,
        **{name: str(value) for name, value in task.options.get("settings", {}).items()},
    }


def _warm_up(client: ThawClient, task: Task) -> None:
    """One job on other images: server and worker have loaded then what they load once."""
    work = task.work
    lay_out(None, Path(work.data).with_name(FIRST), 4)
    small = {**spec_of(work, {}), "dataset": {"path": FIRST}, "recipe": {"name": "joint", "epochs": 1}}
    del small["stages"]
    _follow(client, client.submit(small))


def _follow(client: ThawClient, job: Job) -> Job:
    for _ in client.stream_events(job.id):
        pass
    ended = client.job(job.id)
    if ended.status != "succeeded":
        raise RuntimeError(f"{job.id} {ended.status}: {ended.status_reason}")
    return ended


def _measure(client: ThawClient, spec: dict[str, Any], task: Task, record: Record) -> None:
    """One job: until its last checkpoint lies here, and until it has succeeded, with its report."""
    last, begun = spec["stages"][-1]["name"], time.monotonic()
    job = client.submit(spec)
    starts: dict[str, float] = {}
    for event in client.stream_events(job.id):
        data = event.data or {}
        if event.type == "stage.started":
            starts[data["stage"]] = event.created_at or 0.0
        elif event.type == "stage.ended":
            record.seconds[data["stage"]] = (event.created_at or 0.0) - starts[data["stage"]]
            if data["stage"] == last:
                client.download(job.id, "last", Path(task.folder))
                record.seconds["total"] = time.monotonic() - begun
        elif event.type in ("stage.features", "warning"):
            record.notes[f"{event.type} {len(record.notes)}"] = event.message
    record.seconds["succeeded"] = time.monotonic() - begun
    job = _follow(client, job)
    record.seconds["picked up"] = (job.started_at or 0.0) - (job.created_at or 0.0)
    record.seconds["preparing"] = min(starts.values()) - (job.started_at or 0.0)
    _note_epochs(client, job.id, task.work, record)


def _note_epochs(client: ThawClient, job: str, work: Work, record: Record) -> None:
    for epoch in client.metrics(job):
        seconds, stage = epoch.seconds, epoch.stage
        took = (seconds.data or 0.0) + (seconds.train or 0.0) if seconds else 0.0
        record.training[stage] = record.training.get(stage, 0.0) + took
        record.trained[stage] = record.trained.get(stage, 0) + work.trained
        record.validated[stage] = record.validated.get(stage, 0) + work.validated
        if epoch.val is not None:
            record.accuracy.append(epoch.val.accuracy or 0.0)


def _measure_eight(client: ThawClient, spec: dict[str, Any], work: Work, record: Record) -> None:
    """An experiment of eight head rates: until all its jobs have succeeded."""
    del spec["seed"]
    variants = [{"name": f"{rate:g}", "patch": {"stages": _at(spec["stages"], rate)}} for rate in RATES]
    begun = time.monotonic()
    made = client.create_experiment({"spec": spec, "variants": variants, "seeds": [work.seed]})
    while (experiment := client.experiment(made.id)).status not in ("succeeded", "failed", "cancelled"):
        time.sleep(LOOK)
    record.seconds["total"] = time.monotonic() - begun
    if experiment.status != "succeeded":
        raise RuntimeError(f"the experiment {experiment.status}: {experiment.answer}")
    record.accuracy = [trial.value or 0.0 for trial in experiment.jobs]
    _note_jobs(client, experiment, record)


def _note_jobs(client: ThawClient, experiment: Experiment, record: Record) -> None:
    jobs = [client.job(trial.id) for trial in experiment.jobs]
    ends = sorted(job.finished_at or 0.0 for job in jobs)
    record.seconds["first job"] = ends[0] - min(job.created_at or 0.0 for job in jobs)
    if len(ends) > 1:
        later = [after - before for before, after in pairwise(ends)]
        record.seconds["each further job"] = sum(later) / len(later)


def _at(stages: list[dict[str, Any]], rate: float) -> list[dict[str, Any]]:
    """The stages with another rate in the first one."""
    first, *others = stages
    return [{**first, "lr": {"schedule": {"name": "constant", "lr": rate}}}, *others]


if __name__ == "__main__":
    main()
