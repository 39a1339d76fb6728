from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, RowMapping, func, insert, select

from app.store.database import Database, db_now
from app.store.errors import TransitionRefused
from app.store.leases import close_attempt, renew
from app.store.records import Claim, JobError, Json, Level
from app.store.states import GIVEN_BACK, Outcome, Status
from app.store.tables import attempts, jobs
from app.store.transitions import move


def claim(db: Database, worker: str, lease_seconds: float) -> Claim | None:
    """Take the next queued job: the highest priority, then the oldest. None where nothing is queued.

    Args:
        db: the database.
        worker: who takes it; a new name for every process start, at most 64 characters.
        lease_seconds: the job is another's to take when nothing is heard for so long.
    """
    waiting = select(jobs.c.seq).where(jobs.c.status == Status.QUEUED).limit(1)
    with db.read() as connection:  # idle workers ask often, and must not take the write lock for it
        if connection.execute(waiting).first() is None:
            return None
    with db.write() as connection:
        row = move(
            connection,
            Status.RUNNING,
            jobs.c.seq == _next(),
            reason=f"taken by worker {worker}",
            data={"worker": worker},
            values={
                "attempt": jobs.c.attempt + 1,
                "worker": worker,
                "lease_until": db_now() + lease_seconds,
                "started_at": func.coalesce(jobs.c.started_at, db_now()),
            },
        )
        return _open(connection, row) if row is not None else None


def heartbeat(db: Database, claim: Claim, lease_seconds: float, progress: Json | None = None) -> Status:
    """Extend the lease by `lease_seconds` from now and store the progress, if any.

    Returns:
        The job's status: `pausing` and `cancelling` ask the worker to stop.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    values = {} if progress is None else {"progress": progress}
    with db.write() as connection:
        return renew(connection, claim, lease_seconds, **values)


def finish(
    db: Database,
    claim: Claim,
    status: Status,
    reason: str,
    error: JobError | None = None,
    result: Json | None = None,
    best: Json | None = None,
) -> Status:
    """End the job as `succeeded`, `failed` or `cancelled`; one that is being cancelled always ends as that.

    Returns:
        The status that was set.

    Raises:
        LeaseLost: the attempt no longer holds the job.
        TransitionRefused: `cancelled`, and no client asked for it.
    """
    with db.write() as connection:
        current = renew(connection, claim, 0.0)
        if current is Status.CANCELLING and status is not Status.CANCELLED:
            status, reason, error, result = Status.CANCELLED, "cancelled by a client", None, None
        values: Json = {"result": result}
        if best is not None:
            values["best"] = best
        if error is not None:
            values |= {f"error_{name}": value for name, value in asdict(error).items()}
        level: Level = "error" if status is Status.FAILED else "info"
        if move(connection, status, _job(claim), reason=reason, level=level, values=values) is None:
            raise TransitionRefused(claim.job_id, current, status)
        close_attempt(connection, claim.seq, claim.attempt, Outcome(status), reason)
    return status


def release(db: Database, claim: Claim, reason: str, resolved_spec: Json | None = None) -> Status:
    """Give the job back without charging it an attempt.

    With `resolved_spec` it goes on by that one, and its event is a warning.

    Returns:
        The status that was set: `queued`, or what the job was asked to become, `paused` or `cancelled`.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    with db.write() as connection:
        wanted = GIVEN_BACK[renew(connection, claim, 0.0)]
        values = {} if resolved_spec is None else {"resolved_spec": resolved_spec}
        level: Level = "info" if resolved_spec is None else "warning"
        move(connection, wanted, _job(claim), reason=reason, level=level, values=values)
        outcome = Outcome.CANCELLED if wanted is Status.CANCELLED else Outcome.RELEASED
        close_attempt(connection, claim.seq, claim.attempt, outcome, reason)
    return wanted


def _next() -> ColumnElement[int]:
    # An alias, or the subquery would mean the row that is being updated.
    waiting = jobs.alias("waiting")
    return (
        select(waiting.c.seq)
        .where(waiting.c.status == Status.QUEUED)
        .order_by(waiting.c.priority.desc(), waiting.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def _open(connection: Connection, row: RowMapping) -> Claim:
    connection.execute(
        insert(attempts).values(
            job_seq=row["seq"], number=row["attempt"], worker=row["worker"], started_at=db_now()
        )
    )
    return Claim(
        job_id=row["id"],
        seq=row["seq"],
        attempt=row["attempt"],
        worker=row["worker"],
        resolved_spec=row["resolved_spec"],
    )


def _job(claim: Claim) -> ColumnElement[bool]:
    return jobs.c.seq == claim.seq
