"""Claims jobs and watches over their attempts: cancelling, pausing, giving back, ending. No torch in here."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import structlog

from app.settings import Settings
from app.store import attempts, checkpoints, leases
from app.store.database import Database
from app.store.doorbells import Doorbell
from app.store.errors import LeaseLost, StoreUnavailable
from app.store.records import Claim, JobError, Json
from app.store.states import Status
from finetune.events import EpochEnded, Event, Progress
from finetune.spec.job import BackboneSpec, JobWeights
from worker.engine import Attempt, AttemptGone, Engine
from worker.heart import Heart
from worker.orders import Failed, Message, Order
from worker.patience import patiently
from worker.reporter import Reporter

log = structlog.get_logger()

SAVING = 0.8  # of the grace time, for an attempt that saves; the rest is for what follows


class Supervisor:
    """One worker: one job at a time, each attempt in a process of its own."""

    def __init__(self, settings: Settings, db: Database, engine: Engine) -> None:
        self._settings, self._db, self._engine = settings, db, engine
        self._worker = str(uuid4())  # a new one for every process start: no two are ever taken for each other
        self._bell = Doorbell(settings.doorbells_dir, self._worker)
        self._stopping = self._hurried = False
        self._swept = 0.0

    def stop(self) -> None:
        """Ends the work: the running job is saved and given back; the second time without saving.

        Safe to call from a signal handler.
        """
        self._hurried = self._stopping
        self._stopping = True
        self._bell.ring()

    def work(self) -> None:
        """Takes jobs until it is stopped."""
        log.info("worker started", worker=self._worker, poll_seconds=self._settings.poll_seconds)
        while not self._stopping:
            try:
                self._sweep()
                claim = attempts.claim(self._db, self._worker, self._settings.lease_seconds)
                if claim is not None:
                    self._attempt(claim)
                    continue
            except StoreUnavailable as error:
                log.warning("the database does not answer", error=str(error))
            self._rest()
        self._bell.take_down()
        log.info("worker stopped", worker=self._worker)

    def _rest(self) -> None:
        """Waits until the server has something to do, or until it is time to look for it."""
        self._bell.hang()
        if not self._stopping:
            self._bell.wait(self._settings.poll_seconds)
        self._bell.has_rung()

    def _sweep(self) -> None:
        """Takes jobs back from workers that are gone, a few times in a lease."""
        if time.monotonic() - self._swept > self._settings.lease_seconds / 4:
            self._swept = time.monotonic()
            for job in leases.sweep(self._db):
                log.warning("took a job back from a lost worker", job=job)

    def _attempt(self, claim: Claim) -> None:
        log.info("job taken", job=claim.job_id, attempt=claim.attempt)
        try:
            attempt = self._engine.start(self._order(claim))
        except OSError as error:
            log.warning("no attempt could be started", job=claim.job_id, error=str(error))
            with suppress(LeaseLost):
                self._gone(claim, f"it could not be started ({error.strerror})")
            return
        reporter = Reporter(self._db, claim, self._settings.lease_seconds, self._settings.artifacts_dir)
        try:
            ending = self._watch(claim, attempt, reporter)
            attempt.wait(self._settings.grace_seconds)
        except LeaseLost:
            ending = "the lease was lost"
        except Exception:  # one job must not end the worker, and with it all that wait
            log.exception("the worker broke on a job", job=claim.job_id, attempt=claim.attempt)
            ending = self._broken(claim)
        finally:
            attempt.stop()
        log.info("job left", job=claim.job_id, attempt=claim.attempt, ending=ending)

    def _watch(self, claim: Claim, attempt: Attempt, reporter: Reporter) -> str:
        """Follows an attempt to its end; says how it ended."""
        heart = Heart(self._db, claim, self._settings.lease_seconds)
        heard: float | None = None  # when the last step ended, while another one is under way
        leaving: float | None = None  # until when an attempt may take that was asked to save and to end
        while True:
            if self._bell.has_rung():
                heart.hurry()
            status = heart.beat(reporter.progress)
            if status is Status.CANCELLING:
                return self._cancel(claim, attempt)
            if leaving is None and (status is Status.PAUSING or self._stopping):
                leaving = time.monotonic() + SAVING * self._settings.grace_seconds
                attempt.save()
            if leaving is not None and (self._hurried or time.monotonic() > leaving):
                return self._give_back(claim, attempt)
            try:
                message = attempt.receive(heart.left, self._bell)
                if message is not None:
                    heard = time.monotonic() if _within_epoch(message) else None
                if isinstance(message, Failed):
                    return self._failed(claim, attempt, message)
                self._report(message, attempt, reporter)
            except AttemptGone as gone:
                if leaving is not None or self._stopping:
                    return self._give_back(claim, attempt)
                return self._gone(claim, str(gone))
            if reporter.result is not None:
                reporter.retain()  # what a worker before left over that was killed after its last epoch
                return self._finish(claim, Status.SUCCEEDED, "all stages are done", result=reporter.result)
            if heard is not None and time.monotonic() - heard > self._settings.stall_seconds:
                attempt.stop()
                return self._gone(claim, f"nothing was heard of it for {self._settings.stall_seconds:g} s")

    @staticmethod
    def _report(message: Event | None, attempt: Attempt, reporter: Reporter) -> None:
        if message is not None:
            reporter.report(message)
        if isinstance(message, EpochEnded):
            try:
                attempt.acknowledge()  # first: it trains on meanwhile
            finally:
                reporter.retain()

    def _broken(self, claim: Claim) -> str:
        message = "the worker broke on this job; its log has more"
        with suppress(LeaseLost):
            return self._finish(claim, Status.FAILED, message, error=JobError("internal", message))
        return "the lease was lost"

    def _cancel(self, claim: Claim, attempt: Attempt) -> str:
        """Stops the attempt first: a job that has ended holds no device."""
        attempt.stop()
        return self._finish(claim, Status.CANCELLED, "cancelled by a client")

    def _give_back(self, claim: Claim, attempt: Attempt) -> str:
        """Stops the attempt first, so that nobody else starts one while this one still holds the device."""
        attempt.stop()
        return self._patiently(claim, lambda: attempts.release(self._db, claim, "given back by its worker"))

    def _failed(self, claim: Claim, attempt: Attempt, failed: Failed) -> str:
        if self._stopping:  # whoever ends the worker may have ended a part of the attempt
            return self._give_back(claim, attempt)
        if failed.details:
            log.error("attempt failed", job=claim.job_id, attempt=claim.attempt, details=failed.details)
        error = JobError(failed.code, failed.message, failed.param)
        return self._finish(claim, Status.FAILED, failed.message, error=error)

    def _gone(self, claim: Claim, how: str) -> str:
        """An attempt that died counts like a lost worker: another one follows while there are any left."""
        reason = f"attempt {claim.attempt} broke off: {how}"
        return self._patiently(claim, lambda: leases.lose(self._db, claim, reason))

    def _finish(
        self,
        claim: Claim,
        status: Status,
        reason: str,
        error: JobError | None = None,
        result: Json | None = None,
    ) -> Status:
        return self._patiently(
            claim, lambda: attempts.finish(self._db, claim, status, reason, error=error, result=result)
        )

    def _patiently(self, claim: Claim, write: Callable[[], Status]) -> Status:
        seconds = self._settings.lease_seconds
        if self._stopping:
            seconds = min(seconds, (1 - SAVING) * self._settings.grace_seconds)
        return patiently(claim, seconds, write)

    def _order(self, claim: Claim) -> Order:
        settings, artifacts = self._settings, self._settings.artifacts_dir
        resume, best = claim.resume, claim.best
        return Order(
            job=claim.job_id,
            attempt=claim.attempt,
            spec=claim.resolved_spec,
            folder=artifacts / claim.job_id / f"attempt-{claim.attempt}",
            data_dir=settings.data_dir,
            weights_dir=settings.weights_dir,
            backbones=settings.backbones,
            device=settings.device,
            data_workers=settings.data_workers,
            resume_weights=artifacts / resume.path if resume else None,
            resume_state=artifacts / resume.state_path if resume and resume.state_path else None,
            best_weights=artifacts / best.path if best else None,
            best_sha256=best.sha256 if best else None,
            job_file=self._job_file(claim),
            cache_dir=settings.cache_dir,
            cache_bytes=settings.cache_bytes,
            checks_dir=settings.checks_dir,
            feature_memory_bytes=settings.feature_memory_bytes,
        )

    def _job_file(self, claim: Claim) -> Path | None:
        weights = BackboneSpec.model_validate(claim.resolved_spec["backbone"]).weights
        if not isinstance(weights, JobWeights):
            return None
        found = checkpoints.get_checkpoint(self._db, weights.job, weights.checkpoint)
        return self._settings.artifacts_dir / found.path if found else None


def _within_epoch(message: Message) -> bool:
    """Whether another step must follow. Checking data, computing features and validating have no steps."""
    return isinstance(message, Progress) and message.step < message.steps
