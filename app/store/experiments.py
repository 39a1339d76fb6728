from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import delete, func, insert, select, true
from sqlalchemy.exc import IntegrityError

from app.store.branches import check_not_branched
from app.store.database import Database, db_now
from app.store.errors import ExperimentNotEnded, IdempotencyConflict, UnknownCursor
from app.store.jobs import insert_job
from app.store.owners import check_waiting
from app.store.records import Experiment, Json, NewTrial, Trial
from app.store.scopes import NOBODY
from app.store.states import ENDED
from app.store.tables import checkpoints, experiments, jobs
from app.store.transitions import lock_experiment

_COLUMNS = [experiments.c[field.name] for field in fields(Experiment)]


def create_experiment(
    db: Database, values: Json, trials: Sequence[NewTrial], most_waiting: int | None = None
) -> tuple[Experiment, bool]:
    """Store an experiment and its jobs, all or nothing; the jobs are taken in the order given.

    Args:
        db: the database.
        values: the experiment's columns, its id among them.
        trials: its jobs.
        most_waiting: how many jobs its owner may have queued or paused, these among them.

    Returns:
        The experiment, and whether it is new: false where the key was used before with the same request.

    Raises:
        IdempotencyConflict: the key was used before with another request.
        TooManyWaiting: they would be more waiting jobs than an owner may have.
    """
    owner = values.get("owner", NOBODY)
    row = {"created_at": db_now(), **values}
    try:
        with db.write() as connection:
            check_waiting(connection, owner, most_waiting, len(trials))
            stored = connection.execute(insert(experiments).values(row).returning(*_COLUMNS)).mappings().one()
            for trial in trials:
                columns = asdict(trial) | {"experiment": stored["id"], "owner": owner}
                insert_job(connection, columns, columns.pop("metadata"))
            return Experiment(**stored), True
    except IntegrityError:
        earlier = find_earlier(db, values.get("idempotency_key"), values.get("request_hash"), owner)
        if earlier is None:
            raise
    return earlier, False


def find_earlier(
    db: Database, idempotency_key: str | None, request_hash: str | None, owner: str = NOBODY
) -> Experiment | None:
    """Return the experiment that the owner's same request with this key gave before; None for a new key.

    Raises:
        IdempotencyConflict: the key was used before with another request.
    """
    if idempotency_key is None:
        return None
    with db.read() as connection:
        mine = (experiments.c.owner == owner) & (experiments.c.idempotency_key == idempotency_key)
        query = select(*_COLUMNS).where(mine)
        row = connection.execute(query).mappings().one_or_none()
    if row and row["request_hash"] != request_hash:
        raise IdempotencyConflict(idempotency_key)
    return Experiment(**row) if row else None


def get_experiment(db: Database, experiment_id: str) -> Experiment | None:
    """Return an experiment; None where there is none with this id."""
    with db.read() as connection:
        query = select(*_COLUMNS).where(experiments.c.id == experiment_id)
        row = connection.execute(query).mappings().one_or_none()
    return Experiment(**row) if row else None


def list_experiments(
    db: Database, after: str | None = None, limit: int = 20, owner: str | None = None
) -> tuple[list[Experiment], bool]:
    """Return up to `limit` experiments, newest first, and whether there are more.

    Args:
        db: the database.
        after: id of the last experiment of the page before.
        limit: at most so many, at least 1.
        owner: only those of this owner; `after` is then one of them, too.

    Raises:
        UnknownCursor: there is no experiment `after`.
    """
    mine = true() if owner is None else experiments.c.owner == owner
    query = select(*_COLUMNS).where(mine).order_by(experiments.c.seq.desc()).limit(limit + 1)
    with db.read() as connection:
        if after is not None:
            cursor = select(experiments.c.seq).where(experiments.c.id == after, mine)
            seq = connection.execute(cursor).scalar_one_or_none()
            if seq is None:
                raise UnknownCursor(after, "experiment")
            query = query.where(experiments.c.seq < seq)
        found = [Experiment(**row) for row in connection.execute(query).mappings()]
    return found[:limit], len(found) > limit


def list_trials(db: Database, experiment_id: str) -> list[Trial]:
    """Return an experiment's jobs in the order in which they were made.

    Of several jobs with one variant and seed the newest is there: a retry takes the place of what it repeats.
    """
    query = (
        select(
            jobs.c.id,
            jobs.c.variant,
            jobs.c.seed,
            jobs.c.status,
            jobs.c.started_at,
            jobs.c.finished_at,
            jobs.c.best,
            checkpoints.c.global_epoch,
        )
        .outerjoin_from(jobs, checkpoints, checkpoints.c.id == jobs.c.best["checkpoint"].as_string())
        .where(jobs.c.experiment == experiment_id)
        .order_by(jobs.c.seq)
    )
    newest: dict[tuple[str, int], Trial] = {}
    with db.read() as connection:
        for row in connection.execute(query).mappings():
            shown = {name: value for name, value in row.items() if name not in ("best", "global_epoch")}
            value = row["best"]["value"] if row["best"] else None
            trial = Trial(**shown, value=value, best_epoch=row["global_epoch"])
            newest[trial.variant, trial.seed] = trial
    return list(newest.values())


def delete_experiment(db: Database, experiment_id: str) -> list[str]:
    """Delete an experiment with all its jobs; return the jobs' ids, whose files can now be deleted.

    Raises:
        ExperimentNotFound: there is no such experiment.
        ExperimentNotEnded: a job of it has not ended.
        StillBranched: a job that has not ended starts from a checkpoint of one of its jobs.
    """
    of_it = jobs.c.experiment == experiment_id
    with db.write() as connection:
        lock_experiment(connection, experiment_id)
        going = select(func.count()).where(of_it, jobs.c.status.not_in(sorted(ENDED)))
        count = connection.execute(going).scalar_one()
        if count:
            raise ExperimentNotEnded(experiment_id, count)
        # Locked, as is who makes a branch of one of them.
        of_it_locked = select(jobs.c.id).where(of_it).order_by(jobs.c.seq).with_for_update()
        ids = connection.execute(of_it_locked).scalars().all()
        check_not_branched(connection, of_it)
        connection.execute(delete(experiments).where(experiments.c.id == experiment_id))
    return list(ids)
