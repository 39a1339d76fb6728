from dataclasses import fields

from sqlalchemy import ColumnElement, Connection, Select, select

from app.store.database import Database
from app.store.records import Checkpoint, Json
from app.store.tables import checkpoints, jobs, of_job

COLUMNS = [checkpoints.c[field.name] for field in fields(Checkpoint)]


def list_checkpoints(db: Database, job_id: str) -> list[Checkpoint]:
    """Return the checkpoints of a job, oldest first."""
    query = select(*COLUMNS).where(of_job(checkpoints, job_id)).order_by(checkpoints.c.seq)
    with db.read() as connection:
        return [Checkpoint(**row) for row in connection.execute(query).mappings()]


def get_checkpoint(db: Database, job_id: str, name: str) -> Checkpoint | None:
    """Return a job's checkpoint by its id, or as `best` or `last`; None where there is no such one."""
    query = select(*COLUMNS).join(jobs, jobs.c.seq == checkpoints.c.job_seq).where(jobs.c.id == job_id)
    if name == "last":
        # By age, not by epoch: an attempt that had to fall back writes earlier epochs once more.
        query = query.order_by(checkpoints.c.seq.desc()).limit(1)
    else:
        wanted = jobs.c.best["checkpoint"].as_string() if name == "best" else name
        query = query.where(checkpoints.c.id == wanted)
    with db.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return Checkpoint(**row) if row else None


def newest_resumable(connection: Connection, seq: int) -> Checkpoint | None:
    """Return what a new attempt of job number `seq` resumes from; None where it starts afresh."""
    row = connection.execute(_resumable(checkpoints.c.job_seq == seq).limit(1)).mappings().one_or_none()
    return Checkpoint(**row) if row else None


def best_of(connection: Connection, seq: int, best: Json | None) -> Checkpoint | None:
    """Return the checkpoint that `best` of job number `seq` names; None where it names none that is there."""
    name = best["checkpoint"] if best else None
    query = select(*COLUMNS).where(checkpoints.c.job_seq == seq, checkpoints.c.id == name)
    row = connection.execute(query).mappings().one_or_none()
    return Checkpoint(**row) if row else None


def _resumable(job: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    return (
        select(*COLUMNS).where(job, checkpoints.c.state_path.is_not(None)).order_by(checkpoints.c.seq.desc())
    )
