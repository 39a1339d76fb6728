"""What an owner has: jobs that wait, and bytes of what jobs have left."""

from sqlalchemy import ColumnElement, Connection, func, select

from app.store.database import Database
from app.store.errors import TooManyWaiting
from app.store.states import Status
from app.store.tables import api_keys, checkpoints, experiments, jobs, reports, states

_WAITING = (Status.QUEUED, Status.PAUSED)  # a paused job can be queued again at any time


def owner_of_job(db: Database, job_id: str) -> str | None:
    """Return whose a job is; None where there is no such job."""
    return _one(db, jobs.c.owner, jobs.c.id == job_id)


def owner_of_experiment(db: Database, experiment_id: str) -> str | None:
    """Return whose an experiment is; None where there is no such experiment."""
    return _one(db, experiments.c.owner, experiments.c.id == experiment_id)


def check_waiting(connection: Connection, owner: str, most: int | None, more: int) -> None:
    """Allow an owner so many more jobs that wait; None is no limit. Holds until the transaction ends.

    Raises:
        TooManyWaiting: together with those that wait already they are more than `most`.
    """
    if most is None:
        return
    # The same row for all requests of an owner: on PostgreSQL, too, they count one after the other.
    first = select(api_keys.c.id).where(api_keys.c.owner == owner).order_by(api_keys.c.id).limit(1)
    connection.execute(first.with_for_update())
    count = select(func.count()).where(jobs.c.owner == owner, jobs.c.status.in_(_WAITING))
    waiting = connection.execute(count).scalar_one()
    if waiting + more > most:
        raise TooManyWaiting(owner, waiting, most)


def stored_bytes(db: Database, owner: str) -> int:
    """Return the bytes of all files that an owner's jobs have left: checkpoints, states, exports, reports."""
    of_owner = jobs.c.owner == owner
    of_checkpoints = func.sum(checkpoints.c.size + func.coalesce(checkpoints.c.state_size, 0))
    of_reports = func.sum(reports.c.size + reports.c.predictions_size)
    exports = select(checkpoints.c.exports).join(jobs).where(of_owner, checkpoints.c.exports.is_not(None))
    with db.read() as connection:
        sums = [
            connection.execute(select(total).select_from(table.join(jobs)).where(of_owner)).scalar_one() or 0
            for table, total in (
                (checkpoints, of_checkpoints),
                (states, func.sum(states.c.size)),
                (reports, of_reports),
            )
        ]
        made = [export for row in connection.execute(exports).scalars() for export in row.values()]
    return int(sum(sums)) + sum(int(export["size"]) for export in made)


def _one(db: Database, column: ColumnElement[str], where: ColumnElement[bool]) -> str | None:
    with db.read() as connection:
        found: str | None = connection.execute(select(column).where(where)).scalar_one_or_none()
    return found
