import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, select, update

from app.store.database import Database, db_now
from app.store.errors import LeaseLost
from app.store.records import Claim
from app.store.states import ACTIVE, GIVEN_BACK, Outcome, Status
from app.store.tables import attempts, jobs
from app.store.transitions import move

_HELD = jobs.c.status.in_(sorted(ACTIVE))


def renew(connection: Connection, claim: Claim, lease_seconds: float, **values: object) -> Status:
    """Extend the lease: the guard that every write of a worker begins with.

    Args:
        connection: the transaction that the write happens in.
        claim: the worker's hold on the job.
        lease_seconds: the lease ends so many seconds from now.
        values: other columns of the job to set.

    Returns:
        The job's status.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    change = (
        update(jobs)
        .where(
            jobs.c.id == claim.job_id, jobs.c.attempt == claim.attempt, jobs.c.worker == claim.worker, _HELD
        )
        .values(lease_until=db_now() + lease_seconds, **values)
        .returning(jobs.c.status)
    )
    status: Status | None = connection.execute(change).scalar_one_or_none()
    if status is None:
        raise LeaseLost(claim.job_id, claim.attempt)
    return status


def close_attempt(connection: Connection, seq: int, number: int, outcome: Outcome, reason: str) -> None:
    """Note how an attempt of job number `seq` ended, within the caller's transaction."""
    connection.execute(
        update(attempts)
        .where(attempts.c.job_seq == seq, attempts.c.number == number)
        .values(ended_at=db_now(), outcome=outcome, reason=reason)
    )


class Sweeper:
    """Takes jobs back from lost workers, to be asked every `interval` seconds: a few times in a lease.

    Where the machine was asleep, or its clock was put forward, all leases have run out at once. The sweeper
    then waits for its next turn, until which those who live have renewed theirs.
    """

    def __init__(self, db: Database, lease_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds that count while the machine sleeps, as the database's does."""
        self._db, self._clock, self.interval = db, clock, lease_seconds / 4
        self._ahead = self._clock() - time.monotonic()

    def sweep(self) -> list[str]:
        """Take back what `sweep` does, unless time has leapt since the last turn."""
        before, self._ahead = self._ahead, self._clock() - time.monotonic()
        return [] if abs(self._ahead - before) > self.interval else sweep(self._db)


def sweep(db: Database) -> list[str]:
    """Take the jobs whose lease ran out from their workers; return the ids of those jobs.

    Each is queued (or paused) again while it has lost fewer attempts than it may, else it fails with the code
    `worker_lost`; one that was being cancelled is cancelled.
    """
    expired = select(jobs).where(_HELD, jobs.c.lease_until < db_now())
    with db.read() as connection:  # nearly always finds nothing, and then takes no write lock
        if connection.execute(expired.limit(1)).first() is None:
            return []
    with db.write() as connection:
        rows = connection.execute(expired.with_for_update(skip_locked=True)).mappings().all()
        return [row["id"] for row in rows if _sweep_one(connection, row)]


def lose(db: Database, claim: Claim, reason: str) -> Status:
    """Take a job from an attempt that broke off, as `sweep` does when a lease has run out.

    Returns:
        The status that was set.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    with db.write() as connection:
        renew(connection, claim, 0.0)
        row = connection.execute(select(jobs).where(jobs.c.seq == claim.seq)).mappings().one()
        return _take_back(connection, row, jobs.c.seq == claim.seq, reason) or Status(row["status"])


def _sweep_one(connection: Connection, row: RowMapping) -> bool:
    reason = f"worker {row['worker']} was not heard of for too long, in attempt {row['attempt']}"
    still = (jobs.c.seq == row["seq"]) & (jobs.c.attempt == row["attempt"]) & (jobs.c.lease_until < db_now())
    return _take_back(connection, row, still, reason) is not None


def _take_back(
    connection: Connection, row: RowMapping, where: ColumnElement[bool], reason: str
) -> Status | None:
    lost = row["lost_attempts"] + 1
    wanted = GIVEN_BACK[row["status"]]
    values: dict[str, Any] = {"lost_attempts": lost}
    if wanted is not Status.CANCELLED and lost >= row["max_attempts"]:
        wanted = Status.FAILED
        values |= {"error_code": "worker_lost", "error_message": f"{reason}; no attempts are left"}
    moved = move(
        connection,
        wanted,
        where,
        reason=reason,
        level="error" if wanted is Status.FAILED else "warning",
        data={"code": "worker_lost", "worker": row["worker"]},
        values=values,
    )
    if moved is None:
        return None
    close_attempt(connection, row["seq"], row["attempt"], Outcome.LOST, reason)
    return wanted
