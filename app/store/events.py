from dataclasses import fields

from sqlalchemy import Connection, insert, select

from app.store.database import Database, db_now
from app.store.records import Event, Json, Level
from app.store.tables import events, of_job

_COLUMNS = [events.c[field.name] for field in fields(Event)]


def list_events(db: Database, job_id: str, after: int = 0, limit: int = 100) -> list[Event]:
    """Return up to `limit` events of a job with an id above `after`, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(of_job(events, job_id), events.c.id > after)
        .order_by(events.c.id)
        .limit(limit)
    )
    with db.read() as connection:
        return [Event(**row) for row in connection.execute(query).mappings()]


def add_event(
    connection: Connection, seq: int, kind: str, message: str, level: Level = "info", data: Json | None = None
) -> None:
    """Write an event of job number `seq` within the caller's transaction."""
    connection.execute(
        insert(events).values(
            job_seq=seq, type=kind, level=level, message=message, data=data or {}, created_at=db_now()
        )
    )
