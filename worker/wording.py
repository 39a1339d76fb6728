"""What the events of a job say, in words and as data."""

from typing import Any

from app.store.records import Checkpoint, State
from finetune.data.problems import MOST_NAMED, first_of
from finetune.events import FeaturesReady, FilesSkipped, ReportReady, RunStarted, StageStarted

NAMED = 10  # classes in a message; the event's data has all


def goes_on(point: Checkpoint | State | None) -> str:
    """Where a job goes on that had to fall back."""
    match point:
        case None:
            return "begins anew"
        case State():
            return f"goes on from step {point.step} of epoch {point.global_epoch}"
        case Checkpoint():
            return f"goes on from epoch {point.global_epoch}"


def prepared_data(event: RunStarted) -> dict[str, Any]:
    """What an attempt trains with."""
    images = {"decoded": event.images_decoded, "known": event.images_known}
    about = {"device": event.device, "precision": event.precision}
    return {**about, "head": event.plan["head"], "images": images, "dataset_fingerprint": event.fingerprint}


def prepared_text(event: RunStarted) -> str:
    """What an attempt trains with."""
    known, all_ = event.images_known, event.images_decoded + event.images_known
    before = f"; {known} of {all_} images were checked before" if known else ""
    return f"training on {event.device} in {event.precision}; {_head_text(event.plan['head'])}{before}"


def skipped_data(event: FilesSkipped) -> dict[str, Any]:
    """The files that a run does without, each kind's first ones."""
    return {
        "counts": {kind: len(files) for kind, files in event.files.items()},
        "files": {kind: list(files[:MOST_NAMED]) for kind, files in event.files.items()},
    }


def skipped_text(event: FilesSkipped) -> str:
    """The files that a run does without, some of them by name."""
    kinds = [f"{len(files)} {kind} ({first_of(files)})" for kind, files in event.files.items()]
    return f"training without {', '.join(kinds)}"


def _head_text(head: dict[str, Any]) -> str:
    """What became of the head, and of which classes its rows are kept and new where it is both."""
    if head["action"] != "adapted":
        return f"the head is {head['action']}"
    kept, new = (
        ", ".join(head[key][:NAMED]) + ("…" if len(head[key]) > NAMED else "") for key in ("kept", "new")
    )
    return f"the head keeps what it knows of {kept}; new are {new}"


def features_text(event: FeaturesReady) -> str:
    """Where a stage's features come from."""
    computed = [f"of {event.computed} images computed"] if event.computed else []
    cached = [f"of {event.cached} images taken from the cache"] if event.cached else []
    views = [f"{event.views} views of each training image"] if event.views > 1 else []
    kept = [f"{event.bytes:,} bytes {'in memory' if event.kept == 'memory' else 'on disk'}"]
    return f"stage {event.stage}: features {', '.join(computed + cached + views + kept)}"


def report_text(event: ReportReady) -> str:
    """The first figure of the report, and the score that came again."""
    name, value = next(iter(event.figures.items()))
    again, metric = event.reproduced["again"], event.reproduced["metric"]
    return (
        f"the best checkpoint was loaded anew and gives {metric} {_number(again)}, as was stored; "
        f"the report is ready: {name} {_number(value)}"
    )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def stage_text(event: StageStarted) -> str:
    """Where a stage begins, or goes on, and what it trains."""
    total = event.trained_parameters + event.frozen_parameters
    once = ", features computed once" if event.features_once else ""
    within = f", after step {event.step}" if event.step else ""
    resumed = f" at epoch {event.epoch}{within}" if event.epoch > 1 or event.step else ""
    return f"stage {event.stage}{resumed}: trains {event.trained_parameters:,} of {total:,} parameters{once}"
