"""Jobs that should go on and do not, as far as the rows tell."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, String, cast, func, literal, select

from app.store.database import Database, db_now
from app.store.states import ACTIVE, Status
from app.store.tables import events, jobs

_ASKED = (Status.PAUSING, Status.CANCELLING)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job, and for how many seconds it has stood where it stands."""

    id: str
    status: Status
    worker: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Standstill:
    """What waits, and how many jobs go on.

    `next` is the job that a worker would take now, `lost` are those whose lease has run out, `asked` those
    that a client has asked to stop.
    """

    queued: int
    held: int
    next: Waiting | None
    lost: list[Waiting]
    asked: list[Waiting]


def find_standstill(db: Database) -> Standstill:
    """Return all of it, as of one moment."""
    held = jobs.c.status.in_(sorted(ACTIVE))
    alive = held & (jobs.c.lease_until >= db_now())
    since = select(func.max(events.c.created_at)).where(events.c.job_seq == jobs.c.seq, _says_the_status())
    stood = db_now() - func.coalesce(since.scalar_subquery(), jobs.c.created_at)
    columns = (jobs.c.id, jobs.c.status, jobs.c.worker)
    queue = (
        select(*columns, stood)
        .where(jobs.c.status == Status.QUEUED)
        .order_by(jobs.c.priority.desc(), jobs.c.seq)
        .limit(1)
    )
    lost = select(*columns, db_now() - jobs.c.lease_until).where(held, jobs.c.lease_until < db_now())
    asked = select(*columns, stood).where(alive, jobs.c.status.in_(_ASKED))
    with db.read() as connection:
        row = connection.execute(queue).one_or_none()
        return Standstill(
            queued=connection.scalar(_count(jobs.c.status == Status.QUEUED)) or 0,
            held=connection.scalar(_count(alive)) or 0,
            next=Waiting(*row) if row else None,
            lost=[Waiting(*row) for row in connection.execute(lost)],
            asked=[Waiting(*row) for row in connection.execute(asked)],
        )


def _says_the_status() -> ColumnElement[bool]:
    return events.c.type == literal("job.") + cast(jobs.c.status, String)


def _count(condition: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).select_from(jobs).where(condition)
