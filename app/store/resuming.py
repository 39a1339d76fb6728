"""Where a job can go on: after its epochs' checkpoints, and from the state within an epoch."""

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, delete, func, insert, select, update

from app.store.branches import branched
from app.store.checkpoints import COLUMNS
from app.store.database import Database, db_now
from app.store.events import add_event
from app.store.leases import renew
from app.store.records import Checkpoint, Claim, Json, NewState, State
from app.store.tables import checkpoints, states

STATE = [states.c[field.name] for field in fields(State)]


def list_points(db: Database, claim: Claim) -> list[Checkpoint | State]:
    """Return what an attempt of the job can go on from, newest first."""
    resumable = checkpoints.c.job_seq == claim.seq, checkpoints.c.state_path.is_not(None)
    with db.read() as connection:
        rows = connection.execute(select(*COLUMNS).where(*resumable).order_by(checkpoints.c.seq.desc()))
        found: list[Checkpoint | State] = [Checkpoint(**row) for row in rows.mappings()]
        state = _state(connection, claim)
    if state is not None:
        # By age, not by epoch: an attempt that had to fall back repeats earlier epochs.
        newer = sum(isinstance(one, Checkpoint) and one.seq > state.after_seq for one in found)
        found.insert(newer, state)
    return found


def record_state(db: Database, claim: Claim, lease_seconds: float, new: NewState) -> State | None:
    """Write a state within an epoch in the place of the one before; return that, whose file can now go.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    newest = select(func.coalesce(func.max(checkpoints.c.seq), 0)).where(checkpoints.c.job_seq == claim.seq)
    with db.write() as connection:
        renew(connection, claim, lease_seconds)
        before = _drop_state(connection, claim)
        values = {"job_seq": claim.seq, "attempt": claim.attempt, "created_at": db_now(), **asdict(new)}
        connection.execute(insert(states).values(after_seq=newest.scalar_subquery(), **values))
    return before


def drop_passed_state(db: Database, claim: Claim, lease_seconds: float) -> State | None:
    """Delete the state within an epoch that has ended since; return it, whose file can now go.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    newer = select(checkpoints.c.seq).where(
        checkpoints.c.job_seq == claim.seq, checkpoints.c.seq > states.c.after_seq
    )
    passed = select(states.c.id).where(states.c.job_seq == claim.seq, newer.exists())
    with db.read() as connection:  # most jobs have none, and need no write for it
        if connection.execute(passed).first() is None:
            return None
    with db.write() as connection:
        renew(connection, claim, lease_seconds)
        return _drop_state(connection, claim)


def fall_back(
    db: Database,
    claim: Claim,
    lease_seconds: float,
    dropped: Sequence[str],
    best: Json | None,
    message: str,
    data: Json,
) -> list[Checkpoint | State]:
    """Delete what cannot be gone on from and is newer than what can, with a warning event, all or nothing.

    A checkpoint that a branch starts from which has not ended stays, but nothing goes on from it any more.

    Args:
        db: the database.
        claim: the worker's hold on the job.
        lease_seconds: the lease ends so many seconds from now.
        dropped: ids of checkpoints and states.
        best: the job's best checkpoint as it was then, `{"checkpoint": id, "metric", "value"}`.
        message: of the event.
        data: of the event.

    Returns:
        What was there, whose files can now go.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    gone = checkpoints.c.job_seq == claim.seq, checkpoints.c.id.in_(dropped)
    held = checkpoints.c.id.in_(branched(dropped))
    no_state = {"state_path": None, "state_size": None, "state_sha256": None}
    with db.write() as connection:
        renew(connection, claim, lease_seconds, best=best)
        connection.execute(update(checkpoints).where(*gone, held).values(no_state))
        rows = connection.execute(delete(checkpoints).where(*gone, ~held).returning(*COLUMNS)).mappings()
        found: list[Checkpoint | State] = [Checkpoint(**row) for row in rows]
        state = _state(connection, claim)
        if state is not None and state.id in dropped:
            _drop_state(connection, claim)
            found.append(state)
        add_event(
            connection, claim.seq, "job.fell_back", message, "warning", {"attempt": claim.attempt, **data}
        )
    return found


def _state(connection: Connection, claim: Claim) -> State | None:
    row = connection.execute(select(*STATE).where(states.c.job_seq == claim.seq)).mappings().one_or_none()
    return State(**row) if row else None


def _drop_state(connection: Connection, claim: Claim) -> State | None:
    dropped = delete(states).where(states.c.job_seq == claim.seq).returning(*STATE)
    row = connection.execute(dropped).mappings().one_or_none()
    return State(**row) if row else None
