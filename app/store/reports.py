from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, delete, insert

from app.store.branches import branched
from app.store.checkpoints import COLUMNS
from app.store.database import Database, db_now
from app.store.events import add_event
from app.store.leases import renew
from app.store.records import Checkpoint, Claim, Json, Level, NewCheckpoint
from app.store.tables import checkpoints, epochs

_WHERE = ("stage", "stage_index", "epoch", "global_epoch")


def record_event(
    db: Database,
    claim: Claim,
    lease_seconds: float,
    kind: str,
    message: str,
    level: Level = "info",
    data: Json | None = None,
) -> None:
    """Write an event of the attempt; `kind` becomes its type.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    with db.write() as connection:
        renew(connection, claim, lease_seconds)
        add_event(connection, claim.seq, kind, message, level, {"attempt": claim.attempt, **(data or {})})


def record_prepared(
    db: Database, claim: Claim, lease_seconds: float, fingerprint: str, message: str, data: Json
) -> None:
    """Write that the attempt has its data and network ready, and what data that is.

    A later attempt that goes on from a checkpoint has the same data, or it would not go on. One that begins
    anew may have other data, and then that is what the job trains on.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    with db.write() as connection:
        renew(connection, claim, lease_seconds, dataset_fingerprint=fingerprint)
        data = {"attempt": claim.attempt, **data}
        add_event(connection, claim.seq, "job.prepared", message, data=data)


def record_epoch(
    db: Database,
    claim: Claim,
    lease_seconds: float,
    record: Json,
    checkpoint: NewCheckpoint | None = None,
    best: Json | None = None,
) -> Checkpoint | None:
    """Write an epoch, the checkpoint it left and its event, all or nothing.

    Args:
        db: the database.
        claim: the worker's hold on the job.
        lease_seconds: the lease ends so many seconds from now.
        record: the epoch; must hold `stage`, `stage_index`, `epoch` and `global_epoch`, and no NaN.
        checkpoint: files of this epoch that are complete on disk.
        best: the job's new best, `{"checkpoint": id, "metric", "value"}`; None leaves the one there is.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    values = {} if best is None else {"best": best}
    place = {name: record[name] for name in _WHERE}
    with db.write() as connection:
        renew(connection, claim, lease_seconds, **values)
        _replace_epoch(connection, claim, record, place)
        stored = _insert_checkpoint(connection, claim, checkpoint, place) if checkpoint else None
        data = {"attempt": claim.attempt, **place, "checkpoint": stored.id if stored else None}
        message = f"epoch {place['epoch']} of stage {place['stage']} ended"
        add_event(connection, claim.seq, "job.epoch", message, data=data)
    return stored


def drop_checkpoints(
    db: Database, claim: Claim, lease_seconds: float, ids: Sequence[str]
) -> list[Checkpoint]:
    """Delete checkpoints of the claimed job; return those that were there, whose files can now be deleted.

    One that a branch starts from which has not ended is not deleted.

    Raises:
        LeaseLost: the attempt no longer holds the job.
    """
    drop = (
        delete(checkpoints)
        .where(checkpoints.c.job_seq == claim.seq, checkpoints.c.id.in_(ids))
        .where(checkpoints.c.id.not_in(branched(ids)))
        .returning(*COLUMNS)
    )
    with db.write() as connection:
        renew(connection, claim, lease_seconds)
        return [Checkpoint(**row) for row in connection.execute(drop).mappings()]


def _replace_epoch(connection: Connection, claim: Claim, record: Json, place: Json) -> None:
    # An attempt that resumed before the end of what an earlier one had reached records those epochs anew,
    # and the earlier one's later epochs did not lead to where the job is now.
    connection.execute(
        delete(epochs).where(epochs.c.job_seq == claim.seq, epochs.c.global_epoch >= place["global_epoch"])
    )
    connection.execute(
        insert(epochs).values(
            job_seq=claim.seq, attempt=claim.attempt, record=record, created_at=db_now(), **place
        )
    )


def _insert_checkpoint(
    connection: Connection, claim: Claim, checkpoint: NewCheckpoint, place: Json
) -> Checkpoint:
    values = {"job_seq": claim.seq, "attempt": claim.attempt, "created_at": db_now(), **place}
    row = connection.execute(insert(checkpoints).values(**asdict(checkpoint), **values).returning(*COLUMNS))
    return Checkpoint(**row.mappings().one())
