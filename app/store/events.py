from collections.abc import Mapping
from dataclasses import dataclass, fields

from sqlalchemy import Connection, func, insert, select

from app.store.database import Database, db_now, tell_followers
from app.store.records import Event, Json, Level
from app.store.states import ENDED
from app.store.tables import events, jobs, of_job

_COLUMNS = [events.c[field.name] for field in fields(Event)]


@dataclass(frozen=True, slots=True)
class News:
    """What a look at a job found: the id of its newest event (0 before the first), and events of it.

    `ended` says that no event will follow the newest one.
    """

    newest: int
    ended: bool
    events: list[Event]


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


def look_for_events(db: Database, after: Mapping[str, int | None], limit: int = 100) -> dict[str, News]:
    """Look at many jobs at once.

    Args:
        db: the database.
        after: by job, the id above which its events are wanted; None wants none of them.
        limit: at most so many events of each job, oldest first.

    Returns:
        News of each job. One that is gone has ended.
    """
    newest = select(func.max(events.c.id)).where(events.c.job_seq == jobs.c.seq).scalar_subquery()
    query = select(jobs.c.id, jobs.c.seq, jobs.c.status, newest.label("newest")).where(jobs.c.id.in_(after))
    found = {job_id: News(0, True, []) for job_id in after}
    with db.read() as connection:
        for row in connection.execute(query).mappings().all():
            since, last = after[row["id"]], row["newest"] or 0
            fresh = _after(connection, row["seq"], since, limit) if since is not None and since < last else []
            found[row["id"]] = News(last, row["status"] in ENDED, fresh)
    return found


def _after(connection: Connection, seq: int, since: int, limit: int) -> list[Event]:
    query = (
        select(*_COLUMNS)
        .where(events.c.job_seq == seq, events.c.id > since)
        .order_by(events.c.id)
        .limit(limit)
    )
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
    tell_followers(connection)
