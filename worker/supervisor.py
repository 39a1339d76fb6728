"""Claims jobs and watches over their attempts: cancelling, pausing, giving back, ending. No torch in here."""

import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import structlog

from app.settings import Settings
from app.store import attempts, leases
from app.store.database import Database
from app.store.doorbells import Doorbell
from app.store.errors import LeaseLost, StoreUnavailable
from app.store.records import Claim, JobError, Json
from app.store.states import Status
from finetune.errors import OutOfMemory
from finetune.events import EpochEnded, Event
from finetune.spec.halving import halved
from finetune.spec.job import ResolvedSpec
from worker.engine import Attempt, AttemptGone, Engine
from worker.heart import Heart
from worker.ordering import order_for
from worker.orders import Failed, FellBack, Order
from worker.patience import patiently
from worker.reporter import Reporter
from worker.reserve import Reserve
from worker.watchdog import Watchdog

log = structlog.get_logger()

SAVING = 0.8  # of the grace time, for an attempt that saves; the rest is for what follows


class Supervisor:
    """One worker: one job at a time, each attempt in a process of its own."""

    def __init__(self, settings: Settings, db: Database, engine: Engine) -> None:
        self._settings, self._db, self._engine = settings, db, engine
        self._worker = str(uuid4())  # a new one for every process start: no two are ever taken for each other
        self._bell = Doorbell(settings.doorbells_dir, self._worker)
        self._reserve = Reserve(settings.home_dir)
        self._stopping = self._hurried = False
        self._sweeper, self._swept = leases.Sweeper(db, settings.lease_seconds), 0.0

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
                claim = self._claim()
                if claim is not None:
                    self._attempt(claim)
                    continue
            except StoreUnavailable as error:
                log.warning("the database does not answer", error=str(error))
            self._rest()
        self._bell.take_down()
        log.info("worker stopped", worker=self._worker)

    def _claim(self) -> Claim | None:
        """Takes the next job, if there is one, and room on the disk to say what becomes of it."""
        if not self._reserve.keep():
            log.warning("the disk is full, and no job is taken", worker=self._worker)
            return None
        return attempts.claim(self._db, self._worker, self._settings.lease_seconds)

    def _rest(self) -> None:
        """Waits until the server has something to do, or until it is time to look for it."""
        self._bell.hang()
        if not self._stopping:
            self._bell.wait(self._settings.poll_seconds)
        self._bell.has_rung()

    def _sweep(self) -> None:
        """Takes jobs back from workers that are gone, a few times in a lease."""
        if time.monotonic() - self._swept > self._sweeper.interval:
            self._swept = time.monotonic()
            for job in self._sweeper.sweep():
                log.warning("took a job back from a lost worker", job=job)

    def _attempt(self, claim: Claim) -> None:
        log.info("job taken", job=claim.job_id, attempt=claim.attempt)
        attempt: Attempt | None = None
        seconds = self._settings.lease_seconds
        try:
            order = patiently(claim, seconds, lambda: order_for(claim, self._settings, self._db))
            reporter = Reporter(self._db, claim, seconds, self._settings.artifacts_dir)
            attempt = self._started(order)
            ending = self._watch(claim, attempt, reporter)
            attempt.wait(self._settings.grace_seconds)
        except AttemptGone as gone:
            ending = str(gone)
            with suppress(LeaseLost):
                self._gone(claim, None, ending)
        except LeaseLost:
            ending = "the lease was lost"
        except Exception:  # one job must not end the worker, and with it all that wait
            log.exception("the worker broke on a job", job=claim.job_id, attempt=claim.attempt)
            ending = self._broken(claim)
        finally:
            if attempt is not None:
                attempt.stop()
        log.info("job left", job=claim.job_id, attempt=claim.attempt, ending=ending)

    def _started(self, order: Order) -> Attempt:
        """The attempt.

        Raises:
            AttemptGone: the machine has no process for it, or there is no fork server any more.
        """
        try:
            return self._engine.start(order)
        except (OSError, EOFError) as error:
            log.warning("no attempt could be started", job=order.job, error=str(error))
            why = getattr(error, "strerror", None) or "there is no fork server"
            raise AttemptGone(f"it could not be started ({why})") from error

    def _watch(self, claim: Claim, attempt: Attempt, reporter: Reporter) -> str:
        """Follows an attempt to its end; says how it ended."""
        heart = Heart(self._db, claim, self._settings.lease_seconds)
        watchdog = Watchdog(self._settings.stall_seconds)
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
                    watchdog.hear(message)
                if isinstance(message, Failed):
                    return self._failed(claim, attempt, message)
                self._report(message, attempt, reporter)
            except AttemptGone as gone:
                if leaving is not None or self._stopping:
                    return self._give_back(claim, attempt)
                return self._gone(claim, attempt, str(gone))
            if reporter.result is not None:
                reporter.retain()  # what a worker before left over that was killed after its last epoch
                return self._finish(claim, Status.SUCCEEDED, "all stages are done", result=reporter.result)
            hangs = watchdog.finding(attempt) if message is None else None
            if hangs is not None:
                return self._gone(claim, attempt, hangs)

    @staticmethod
    def _report(message: Event | FellBack | None, attempt: Attempt, reporter: Reporter) -> None:
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
        if failed.code == OutOfMemory.code and claim.resolved_spec.get("on_oom") == "halve_batch":
            return self._halve(claim, attempt, failed.message)
        error = JobError(failed.code, failed.message, failed.param)
        return self._finish(claim, Status.FAILED, failed.message, error=error)

    def _halve(self, claim: Claim, attempt: Attempt, message: str) -> str:
        """Lets another attempt go on with half the batch: in a process of its own, with all the memory."""
        attempt.stop()
        before = ResolvedSpec.model_validate(claim.resolved_spec)
        after = halved(before)
        accumulate = ", ".join(f"{s.accumulate} (stage {s.name})" for s in after.stages)
        reason = (
            f"{message}; goes on with batch_size {after.batch_size} instead of {before.batch_size} and "
            f"accumulate {accumulate}: each step has the images that it had"
        )
        spec = after.model_dump(mode="json")
        return self._patiently(claim, lambda: attempts.release(self._db, claim, reason, spec))

    def _gone(self, claim: Claim, attempt: Attempt | None, how: str) -> str:
        """An attempt that died counts like a lost worker: another one follows while there are any left.

        What is left of it is stopped first, so that it holds no device when the next one starts.
        """
        if attempt is not None:
            attempt.stop()
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
