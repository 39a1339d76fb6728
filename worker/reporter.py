"""From an attempt's events to rows, each under the fencing number."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from app.store import checkpoints, job_reports, reports, resuming
from app.store.database import Database
from app.store.records import Checkpoint, Claim, Level, NewCheckpoint, NewReport, NewState, State
from finetune import disk as disks
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
    StateSaved,
    Warned,
)
from finetune.export.orders import remove_exports
from finetune.retention import long_superseded, superseded
from finetune.spec.job import CheckpointSpec
from worker.ordering import best_at
from worker.orders import FellBack
from worker.patience import patiently
from worker.wording import (
    features_text,
    goes_on,
    prepared_data,
    prepared_text,
    report_text,
    skipped_data,
    skipped_text,
    stage_text,
)

log = structlog.get_logger()


class Reporter:
    """Writes what an attempt says. Every write renews the lease, and raises LeaseLost where it is lost."""

    def __init__(self, db: Database, claim: Claim, lease_seconds: float, artifacts: Path) -> None:
        self._db, self._claim, self._lease, self._artifacts = db, claim, lease_seconds, artifacts
        self._keep = CheckpointSpec.model_validate(claim.resolved_spec["checkpoints"])
        self.progress: dict[str, Any] | None = None
        self.result: dict[str, Any] | None = None

    def report(self, event: Event | FellBack) -> None:
        """Stores an event; progress is kept for the next heartbeat.

        Raises:
            LeaseLost: the job belongs to another attempt, or to none.
        """
        match event:
            case Progress():
                self.progress = asdict(event)
            case EpochEnded():
                self._epoch(event)
            case StateSaved():
                self._state(event)
            case FellBack():
                self._fell_back(event)
            case RunEnded():
                self.result = event.result
            case RunStarted():
                self._prepared(event)
            case FilesSkipped():
                self._event("dataset.skipped", skipped_text(event), "warning", skipped_data(event))
            case StageStarted():
                self._event("stage.started", stage_text(event), data=asdict(event))
            case FeaturesReady():
                self._event("stage.features", features_text(event), data=asdict(event))
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
        text, data = prepared_text(event), prepared_data(event)
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
        db, claim, lease, text = self._db, self._claim, self._lease, report_text(event)
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
        best = _best(new) if files.best else None
        record = asdict(event.record)
        if not event.record.nonfinite:
            del record["nonfinite"]
        db, claim, lease = self._db, self._claim, self._lease
        patiently(claim, lease, lambda: reports.record_epoch(db, claim, lease, record, new, best))

    def _state(self, event: StateSaved) -> None:
        place = (event.stage, event.stage_index, event.epoch, event.global_epoch, event.step)
        new = NewState(*place, self._below(event.state), event.size, event.sha256)
        db, claim, lease = self._db, self._claim, self._lease
        before = patiently(claim, lease, lambda: resuming.record_state(db, claim, lease, new))
        if before is not None:
            self._remove(before)

    def _fell_back(self, event: FellBack) -> None:
        db, claim, lease = self._db, self._claim, self._lease
        points = patiently(claim, lease, lambda: resuming.list_points(db, claim))
        every = patiently(claim, lease, lambda: checkpoints.list_checkpoints(db, claim.job_id))
        point = next((point for point in points if point.id == event.point), None)
        best = best_at(point, every, self._keep) if point else None
        text = f"damaged, and not used: {event.what}; {goes_on(point)}"
        data = {"damaged": list(event.damaged), "point": event.point}
        gone = patiently(
            claim,
            lease,
            lambda: resuming.fall_back(
                db, claim, lease, event.damaged, _best(best) if best else None, text, data
            ),
        )
        for one in gone:
            self._remove(one)

    def retain(self) -> None:
        """Lets go of the checkpoints that the spec does not keep; to be called after each epoch.

        Until the run has ended, what the newest one has taken the place of stays, see `long_superseded`.

        Raises:
            LeaseLost: the job belongs to another attempt, or to none.
        """
        patiently(self._claim, self._lease, self._retain)

    def _retain(self) -> None:
        # Rows first, so that no row is ever without its files.
        db, claim, lease = self._db, self._claim, self._lease
        passed = resuming.drop_passed_state(db, claim, lease)
        if passed is not None:
            self._remove(passed)
        there = [(c.id, c.value) for c in checkpoints.list_checkpoints(db, claim.job_id)]
        old = (superseded if self.result is not None else long_superseded)(there, self._keep)
        if not old:
            return
        for gone in reports.drop_checkpoints(db, claim, lease, old):
            self._remove(gone)

    def _remove(self, gone: Checkpoint | State) -> None:
        for path in gone.paths:
            self._let_go(self._artifacts / path)
        if isinstance(gone, Checkpoint):
            remove_exports(self._artifacts, self._claim.job_id, gone.id)

    def _let_go(self, path: Path) -> None:
        """A file that stays is cleared away later, as one without a row: no job fails for it."""
        try:
            disks.disk.remove(path)
        except OSError as error:
            log.warning(
                "a file could not be removed", job=self._claim.job_id, file=path.name, error=str(error)
            )


def _best(checkpoint: Checkpoint | NewCheckpoint) -> dict[str, Any]:
    return {"checkpoint": checkpoint.id, "metric": checkpoint.metric, "value": checkpoint.value}
