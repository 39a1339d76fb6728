from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, select, update

from app.store.database import db_now, tell_workers
from app.store.errors import ExperimentNotFound, JobNotFound
from app.store.events import add_event
from app.store.records import Json, Level
from app.store.states import ACTIVE, ENDED, FOR_WORKERS, Status, sources
from app.store.tables import experiments, jobs


def move(
    connection: Connection,
    wanted: Status,
    where: ColumnElement[bool],
    *,
    reason: str,
    level: Level = "info",
    data: Json | None = None,
    values: Mapping[str, Any] | None = None,
) -> RowMapping | None:
    """Bring the one job that `where` picks to `wanted`, with the event of it: the only way a status changes.

    Returns:
        The job's row afterwards; None where the picked job is in no state that may become `wanted`.
    """
    changes: dict[str, Any] = {"status": wanted, "status_reason": reason, **(values or {})}
    if wanted not in ACTIVE:
        changes |= {"worker": None, "lease_until": None}
    if wanted in ENDED:
        changes["finished_at"] = db_now()
    change = update(jobs).where(where, jobs.c.status.in_(sources(wanted))).values(changes).returning(jobs)
    row = connection.execute(change).mappings().one_or_none()
    if row is not None:
        if wanted in FOR_WORKERS:
            tell_workers(connection)
        add_event(
            connection,
            row["seq"],
            f"job.{wanted}",
            reason,
            level,
            {"attempt": row["attempt"], **(data or {})},
        )
    return row


def lock(connection: Connection, job_id: str) -> Status:
    """Return a job's status and let nobody else change the job until the transaction ends.

    Raises:
        JobNotFound: there is no such job.
    """
    query = select(jobs.c.status).where(jobs.c.id == job_id).with_for_update()
    status: Status | None = connection.execute(query).scalar_one_or_none()
    if status is None:
        raise JobNotFound(job_id)
    return status


def lock_experiment(connection: Connection, experiment_id: str) -> None:
    """Let nobody else add jobs to an experiment, cancel or delete it until the transaction ends.

    Raises:
        ExperimentNotFound: there is no such experiment.
    """
    query = select(experiments.c.id).where(experiments.c.id == experiment_id).with_for_update()
    if connection.execute(query).scalar_one_or_none() is None:
        raise ExperimentNotFound(experiment_id)
