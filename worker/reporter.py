"""From an attempt's events to rows, each under the fencing number."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.store import checkpoints, job_reports, reports
from app.store.database import Database
from app.store.records import Claim, Level, NewCheckpoint, NewReport
from finetune.data.problems import MOST_NAMED, first_of
from finetune.events import (
    CompileChosen,
    EpochEnded,
    Event,
    FeaturesReady,
    FilesSkipped,
    Progress,
    ReportReady,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    Warned,
)
from finetune.export.orders import remove_exports
from finetune.retention import superseded
from finetune.spec.job import CheckpointSpec
from worker.patience import patiently

NAMED = 10  # classes in a message; the event's data has all


class Reporter:
    """Writes what an attempt says. Every write renews the lease, and raises LeaseLost where it is lost."""

    def __init__(self, db: Database, claim: Claim, lease_seconds: float, artifacts: Path) -> None:
        self._db, self._claim, self._lease, self._artifacts = db, claim, lease_seconds, artifacts
        self._keep = CheckpointSpec.model_validate(claim.resolved_spec["checkpoints"])
        self.progress: dict[str, Any] | None = None
        self.result: dict[str, Any] | None = None

    def report(self, event: Event) -> None:
        """Stores an event; progress is kept for the next heartbeat.

        Raises:
            LeaseLost: the job belongs to another attempt, or to none.
        """
        match event:
            case Progress():
                self.progress = asdict(event)
            case EpochEnded():
                self._epoch(event)
            case RunEnded():
                self.result = event.result
            case RunStarted():
                self._prepared(event)
            case FilesSkipped():
                self._event("dataset.skipped", _skipped_text(event), "warning", _skipped_data(event))
            case StageStarted():
                self._event("stage.started", _stage_text(event), data=asdict(event))
            case FeaturesReady():
                self._event("stage.features", _features_text(event), data=asdict(event))
            case CompileChosen():
                state = "on" if event.compiled else "off"
                text = f"stage {event.stage}: compile: {state}: {event.reason}"
                self._event("stage.compile", text, data=asdict(event))
            case StageEnded():
                why = "stopped early" if event.stopped_early else "ended"
                text = f"stage {event.stage} {why} after {event.epochs} epochs"
                self._event("stage.ended", text, data=asdict(event))
            case ReportReady():
                self._job_report(event)
            case Warned():
                self._event("warning", event.message, "warning")

    def _event(self, kind: str, text: str, level: Level = "info", data: dict[str, Any] | None = None) -> None:
        db, claim, lease = self._db, self._claim, self._lease
        patiently(claim, lease, lambda: reports.record_event(db, claim, lease, kind, text, level, data))

    def _prepared(self, event: RunStarted) -> None:
        db, claim, lease = self._db, self._claim, self._lease
        text, data = _prepared_text(event), _prepared_data(event)
        patiently(
            claim, lease, lambda: reports.record_prepared(db, claim, lease, event.fingerprint, text, data)
        )

    def _job_report(self, event: ReportReady) -> None:
        files = event.files
        new = NewReport(
            weights_path=self._below(event.weights),
            path=self._below(files.report),
            size=files.size,
            sha256=files.sha256,
            predictions_path=self._below(files.predictions),
            predictions_size=files.predictions_size,
            predictions_sha256=files.predictions_sha256,
        )
        data = {"figures": event.figures, "reproduced": event.reproduced, "seconds": event.seconds}
        db, claim, lease, text = self._db, self._claim, self._lease, _report_text(event)
        earlier = patiently(
            claim, lease, lambda: job_reports.record_report(db, claim, lease, new, text, data)
        )
        if earlier is not None:
            for path in {earlier.path, earlier.predictions_path} - {new.path, new.predictions_path}:
                (self._artifacts / path).unlink(missing_ok=True)

    def _below(self, path: Path) -> str:
        return path.relative_to(self._artifacts).as_posix()

    def _epoch(self, event: EpochEnded) -> None:
        files = event.checkpoint
        new = NewCheckpoint(
            path=self._below(files.weights),
            size=files.size,
            sha256=files.sha256,
            state_path=self._below(files.state),
            state_size=files.state_size,
            state_sha256=files.state_sha256,
            metric=files.metric,
            value=files.value,
        )
        best = {"checkpoint": new.id, "metric": files.metric, "value": files.value} if files.best else None
        record = asdict(event.record)
        if not event.record.nonfinite:
            del record["nonfinite"]
        db, claim, lease = self._db, self._claim, self._lease
        patiently(claim, lease, lambda: reports.record_epoch(db, claim, lease, record, new, best))

    def retain(self) -> None:
        """Lets go of the checkpoints that the spec does not keep; to be called after each epoch.

        Raises:
            LeaseLost: the job belongs to another attempt, or to none.
        """
        patiently(self._claim, self._lease, self._retain)

    def _retain(self) -> None:
        # Rows first, so that no row is ever without its files.
        there = checkpoints.list_checkpoints(self._db, self._claim.job_id)
        old = superseded([(c.id, c.value) for c in there], self._keep)
        if not old:
            return
        for gone in reports.drop_checkpoints(self._db, self._claim, self._lease, old):
            for path in (gone.path, gone.state_path):
                if path is not None:
                    (self._artifacts / path).unlink(missing_ok=True)
            remove_exports(self._artifacts, self._claim.job_id, gone.id)


def _prepared_data(event: RunStarted) -> dict[str, Any]:
    images = {"decoded": event.images_decoded, "known": event.images_known}
    about = {"device": event.device, "precision": event.precision}
    return {**about, "head": event.plan["head"], "images": images, "dataset_fingerprint": event.fingerprint}


def _prepared_text(event: RunStarted) -> str:
    known, all_ = event.images_known, event.images_decoded + event.images_known
    before = f"; {known} of {all_} images were checked before" if known else ""
    return f"training on {event.device} in {event.precision}; {_head_text(event.plan['head'])}{before}"


def _skipped_data(event: FilesSkipped) -> dict[str, Any]:
    return {
        "counts": {kind: len(files) for kind, files in event.files.items()},
        "files": {kind: list(files[:MOST_NAMED]) for kind, files in event.files.items()},
    }


def _skipped_text(event: FilesSkipped) -> str:
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


def _features_text(event: FeaturesReady) -> str:
    computed = [f"of {event.computed} images computed"] if event.computed else []
    cached = [f"of {event.cached} images taken from the cache"] if event.cached else []
    views = [f"{event.views} views of each training image"] if event.views > 1 else []
    kept = [f"{event.bytes:,} bytes {'in memory' if event.kept == 'memory' else 'on disk'}"]
    return f"stage {event.stage}: features {', '.join(computed + cached + views + kept)}"


def _report_text(event: ReportReady) -> str:
    """The first figure of the report, and the score that came again."""
    name, value = next(iter(event.figures.items()))
    again, metric = event.reproduced["again"], event.reproduced["metric"]
    return (
        f"the best checkpoint was loaded anew and gives {metric} {_number(again)}, as was stored; "
        f"the report is ready: {name} {_number(value)}"
    )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _stage_text(event: StageStarted) -> str:
    total = event.trained_parameters + event.frozen_parameters
    once = ", features computed once" if event.features_once else ""
    resumed = f" at epoch {event.epoch}" if event.epoch > 1 else ""
    return f"stage {event.stage}{resumed}: trains {event.trained_parameters:,} of {total:,} parameters{once}"
