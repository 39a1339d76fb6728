"""What is kept only so long after a job's end: which jobs, experiments and checkpoints are old.

What a job that has not ended begins with, or goes on from, is never old.
"""

from sqlalchemy import ColumnElement, CompoundSelect, delete, exists, func, or_, select, union_all

from app.store.branches import branched
from app.store.checkpoints import COLUMNS
from app.store.database import Database, db_now
from app.store.errors import NotEnded
from app.store.records import Checkpoint, State
from app.store.resuming import STATE
from app.store.states import ENDED, Status
from app.store.tables import checkpoints, experiments, jobs, states
from app.store.transitions import lock

_UNENDED = sorted(set(Status) - ENDED)
_WEIGHTS = ("backbone", "weights", "job")  # where a spec names the job whose checkpoint it begins with


def old_jobs(db: Database, seconds: float, limit: int = 100) -> list[str]:
    """Return up to `limit` jobs that ended more than `seconds` ago, and belong to no experiment."""
    # As a comparison with NULL, it would lead SQLite to the index of experiments, and so to nearly all jobs.
    alone = func.coalesce(jobs.c.experiment, "") == ""
    query = (
        select(jobs.c.id)
        .where(_ended_before(seconds), alone, jobs.c.id.not_in(_needed()))
        .order_by(jobs.c.finished_at)
        .limit(limit)
    )
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def old_experiments(db: Database, seconds: float, limit: int = 100) -> list[str]:
    """Return up to `limit` experiments whose jobs all ended more than `seconds` ago."""
    young = or_(
        jobs.c.status.in_(_UNENDED),
        jobs.c.finished_at >= db_now() - seconds,
        jobs.c.id.in_(_needed()),
    )
    query = (
        select(experiments.c.id)
        .where(
            experiments.c.created_at < db_now() - seconds,
            ~exists().where(jobs.c.experiment == experiments.c.id, young),
        )
        .order_by(experiments.c.seq)
        .limit(limit)
    )
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def jobs_with_old_checkpoints(db: Database, seconds: float, limit: int = 100) -> list[str]:
    """Return up to `limit` jobs that ended more than `seconds` ago, with several checkpoints or a state."""
    count = select(func.count()).where(checkpoints.c.job_seq == jobs.c.seq).scalar_subquery()
    within = exists().where(states.c.job_seq == jobs.c.seq)
    query = (
        select(jobs.c.id)
        .where(_ended_before(seconds), jobs.c.id.not_in(_needed()), or_(count > 1, within))
        .limit(limit)
    )
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def drop_all_but_best(db: Database, job_id: str) -> list[Checkpoint | State]:
    """Delete an ended job's state, and its checkpoints but the best, or the newest where none is the best.

    One that a branch starts from which has not ended is not deleted.

    Returns:
        Those that were deleted, whose files can now be deleted.

    Raises:
        JobNotFound: there is no such job.
        NotEnded: the job has not ended.
    """
    with db.write() as connection:
        current = lock(connection, job_id)
        if current not in ENDED:
            raise NotEnded(job_id, current)
        seq, best = connection.execute(select(jobs.c.seq, jobs.c.best).where(jobs.c.id == job_id)).one()
        of_job = checkpoints.c.job_seq == seq
        best_one = select(checkpoints.c.seq).where(of_job, checkpoints.c.id == (best or {}).get("checkpoint"))
        newest = select(func.max(checkpoints.c.seq)).where(of_job)
        kept = func.coalesce(best_one.scalar_subquery(), newest.scalar_subquery())
        others = of_job & (checkpoints.c.seq != kept)
        ids = connection.execute(select(checkpoints.c.id).where(others)).scalars().all()
        drop = delete(checkpoints).where(others, checkpoints.c.id.not_in(branched(ids)))
        gone: list[Checkpoint | State] = [
            Checkpoint(**row) for row in connection.execute(drop.returning(*COLUMNS)).mappings()
        ]
        state = delete(states).where(states.c.job_seq == seq).returning(*STATE)
        return gone + [State(**row) for row in connection.execute(state).mappings()]


def _ended_before(seconds: float) -> ColumnElement[bool]:
    # A job that has not ended has no such time. Its status beside it would lead SQLite to the wrong index.
    return jobs.c.finished_at < db_now() - seconds


def _needed() -> CompoundSelect[str]:
    going, source = jobs.alias("going"), jobs.alias("source")
    weights = going.c.resolved_spec[_WEIGHTS].as_string()
    unended = going.c.status.in_(_UNENDED)
    return union_all(
        select(weights).where(unended, weights.is_not(None)),
        select(going.c.parent).where(unended, going.c.parent.is_not(None)),
        select(source.c.id)
        .join(checkpoints, checkpoints.c.job_seq == source.c.seq)
        .join(going, going.c.branched_from == checkpoints.c.id)
        .where(unended),
    )
