"""Heartbeats: how a worker keeps its job, and hears what clients want of it."""

import time
from contextlib import suppress

from app.store import attempts, jobs
from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.records import Claim
from app.store.states import Status
from worker.patience import patiently

MOST_SECONDS = 1.0  # between two heartbeats


def interval_of(lease_seconds: float) -> float:
    """Seconds between two heartbeats: with a database that is locked for half a lease, one comes in time."""
    return min(lease_seconds / 4, MOST_SECONDS)


class Heart:
    """Heartbeats of an attempt: a few in every lease, none between."""

    def __init__(self, db: Database, claim: Claim, lease_seconds: float) -> None:
        self._db, self._claim, self._lease = db, claim, lease_seconds
        self._status, self._due = Status.RUNNING, 0.0

    @property
    def left(self) -> float:
        """Seconds until the next one is due."""
        return max(0.0, self._due - time.monotonic())

    def hurry(self) -> None:
        """Lets the next heartbeat come at once where a client wants something of the job."""
        with suppress(StoreUnavailable):
            job = jobs.get_job(self._db, self._claim.job_id)
            if job is None or job.status is not Status.RUNNING:
                self._due = 0.0

    def beat(self, progress: dict[str, object] | None) -> Status:
        """The job's status as of the last heartbeat; makes one where it is time.

        Raises:
            LeaseLost: the job is another's, or the database has been silent for a whole lease.
        """
        begun = time.monotonic()
        if begun >= self._due:
            self._status = patiently(
                self._claim,
                self._lease,
                lambda: attempts.heartbeat(self._db, self._claim, self._lease, progress),
            )
            self._due = begun + interval_of(self._lease)
        return self._status
