from dataclasses import fields

from sqlalchemy import select

from app.store.database import Database
from app.store.records import Checkpoint
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
