"""Thaw as a library: `finetune.train` in a process of its own, one row of the table.

Options: patches of the `spec` and of its stages `head` and `full` (see `benchmarks.specs`); `cache`, whether
images and features are kept in a folder, which is empty at the start; `workers`, processes that load images;
`device`.
"""

import os
from pathlib import Path

from benchmarks.records import Course, Record
from benchmarks.specs import spec_of, unknown
from benchmarks.work import Task
from finetune import backbones
from finetune.events import (
    EpochEnded,
    Event,
    FeaturesReady,
    ReportReady,
    RunStarted,
    StageEnded,
    StageStarted,
    Warned,
)
from finetune.training import train


def run(task: Task, record: Record, course: Course) -> None:
    """Trains, and writes down what the events say."""
    spec = spec_of(task.work, task.options)
    record.skipped = unknown(spec)
    if record.skipped:
        return
    work, folder = task.work, Path(task.folder)
    own = (work.network,) if ":" in work.network else ()
    for event in train(
        spec,
        folder / "checkpoints",
        data_dir=Path(work.data).parent,
        weights_dir=Path(work.weights).parent if work.weights else ".",
        registry=backbones.load(own),
        device=task.options.get("device", "auto"),
        data_workers=_workers(task),
        cache_dir=folder / "cache" if task.options.get("cache") else None,
    ):
        note(event, task, record, course)


def _workers(task: Task) -> int:
    """Processes that load images; "cores" leaves one core of them to the training, as the service does."""
    workers = task.options.get("workers", 0)
    return len(os.sched_getaffinity(0)) - 1 if workers == "cores" else int(workers)


def note(event: Event, task: Task, record: Record, course: Course) -> None:
    """Writes down what an event says."""
    match event:
        case RunStarted():
            course.lap("preparing")
            record.notes["precision"] = event.precision
        case StageStarted():
            course.lap("between stages")
        case FeaturesReady():
            record.notes["features"] = f"of {event.computed} images computed, of {event.cached} kept"
        case EpochEnded():
            stage, seconds = event.record.stage, event.record.seconds
            course.add_training(stage, seconds["data"] + seconds["train"], task.work.trained)
            course.add_validated(stage, task.work.validated)
            record.accuracy.append(event.record.val["accuracy"] or 0.0)
            record.rates[f"{stage} {event.record.epoch}"] = event.record.images_per_second
        case StageEnded():
            course.lap(event.stage)
        case ReportReady():
            course.lap("report")
        case Warned():
            record.notes[f"warning {len(record.notes)}"] = event.message
        case _:
            pass


def main() -> None:
    """Does the task and tells what it took."""
    task = Task.read()
    record = Record(task.row)
    course = Course(record)
    course.lap("imports")
    run(task, record, course)
    record.tell()


if __name__ == "__main__":
    main()
