from sqlalchemy import select

from app.store.database import Database
from app.store.records import Json, Pace
from app.store.states import Status
from app.store.tables import epochs, jobs

_NEWEST = 500  # jobs among which those with the same backbone are looked for
_JOBS = 5  # that are looked at
_EPOCHS = 20  # of each stage


def list_paces(db: Database, backbone: str, owner: str | None = None) -> list[Pace]:
    """Return how fast the newest jobs went that have succeeded with this backbone, newest first.

    Only jobs of `owner`, where one is given.
    """
    newest = select(jobs.c.seq).where(jobs.c.status == Status.SUCCEEDED)
    if owner is not None:
        newest = newest.where(jobs.c.owner == owner)
    newest = newest.order_by(jobs.c.seq.desc()).limit(_NEWEST)
    same = jobs.c.resolved_spec["backbone"]["name"].as_string() == backbone
    columns = jobs.c.seq, jobs.c.id, jobs.c.resolved_spec, jobs.c.started_at, jobs.c.finished_at
    query = select(*columns).where(jobs.c.seq.in_(newest), same).order_by(jobs.c.seq.desc()).limit(_JOBS)
    with db.read() as connection:
        found = connection.execute(query).all()
        records: dict[int, list[Json]] = {}
        of_these = select(epochs.c.job_seq, epochs.c.record).where(
            epochs.c.job_seq.in_([row.seq for row in found]), epochs.c.epoch <= _EPOCHS
        )
        for seq, record in connection.execute(of_these):
            records.setdefault(seq, []).append(record)
    return [
        Pace(row.id, row.resolved_spec, row.finished_at - row.started_at, records.get(row.seq, []))
        for row in found
    ]
