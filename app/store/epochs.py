from dataclasses import fields

from sqlalchemy import select

from app.store.database import Database
from app.store.records import Epoch
from app.store.tables import epochs, of_job

_COLUMNS = [epochs.c[field.name] for field in fields(Epoch)]


def list_epochs(db: Database, job_id: str, after_epoch: int = 0) -> list[Epoch]:
    """Return the epochs of a job whose `global_epoch` is above `after_epoch`, in order."""
    query = (
        select(*_COLUMNS)
        .where(of_job(epochs, job_id), epochs.c.global_epoch > after_epoch)
        .order_by(epochs.c.global_epoch)
    )
    with db.read() as connection:
        return [Epoch(**row) for row in connection.execute(query).mappings()]
