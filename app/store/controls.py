from collections.abc import Mapping

from sqlalchemy import Connection, select

from app.store.database import Database
from app.store.errors import ExperimentEnded, NotRetryable, TransitionRefused
from app.store.jobs import read_job
from app.store.records import Job
from app.store.states import ENDED, RETRYABLE, Status
from app.store.tables import jobs
from app.store.transitions import lock, lock_experiment, move

# What each request makes of a job in each state. A job that a worker holds is asked, by way of its heartbeat.
_CANCEL = {
    Status.QUEUED: Status.CANCELLED,
    Status.PAUSED: Status.CANCELLED,
    Status.RUNNING: Status.CANCELLING,
    Status.PAUSING: Status.CANCELLING,
    Status.CANCELLING: Status.CANCELLING,
}
_PAUSE = {
    Status.QUEUED: Status.PAUSED,
    Status.RUNNING: Status.PAUSING,
    Status.PAUSING: Status.PAUSING,
    Status.PAUSED: Status.PAUSED,
}
_RESUME = {Status.PAUSED: Status.QUEUED}


def cancel_job(db: Database, job_id: str, reason: str = "cancelled by a client") -> Job:
    """End a job: at once, or as soon as its worker has stopped. Cancelling twice changes nothing.

    Raises:
        JobNotFound: there is no such job.
        TransitionRefused: the job has ended.
    """
    return _request(db, job_id, _CANCEL, Status.CANCELLED, reason)


def cancel_experiment(db: Database, experiment_id: str, reason: str = "cancelled by a client") -> None:
    """Cancel all jobs of an experiment that have not ended, all or none. Twice changes nothing.

    Raises:
        ExperimentNotFound: there is no such experiment.
        ExperimentEnded: all its jobs have ended.
    """
    with db.write() as connection:
        lock_experiment(connection, experiment_id)
        # Locked at once and in this order: a worker that ends one of them meanwhile waits for all of it.
        going = (
            select(jobs.c.id)
            .where(jobs.c.experiment == experiment_id, jobs.c.status.not_in(sorted(ENDED)))
            .order_by(jobs.c.seq)
            .with_for_update()
        )
        ids = connection.execute(going).scalars().all()
        if not ids:
            raise ExperimentEnded(experiment_id)
        for job_id in ids:
            _bring(connection, job_id, _CANCEL, Status.CANCELLED, reason)


def pause_job(db: Database, job_id: str, reason: str = "paused by a client") -> Job:
    """Let a job wait until it is resumed: at once, or as soon as its worker has saved. Twice changes nothing.

    Raises:
        JobNotFound: there is no such job.
        TransitionRefused: the job has ended or is being cancelled.
    """
    return _request(db, job_id, _PAUSE, Status.PAUSED, reason)


def resume_job(db: Database, job_id: str, reason: str = "resumed by a client") -> Job:
    """Queue a paused job again; it goes on from its newest checkpoint.

    Raises:
        JobNotFound: there is no such job.
        TransitionRefused: the job is not paused.
    """
    return _request(db, job_id, _RESUME, Status.QUEUED, reason)


def check_retry(job: Job) -> None:
    """Allow another job with the spec of this one.

    Raises:
        NotRetryable: the job has not ended, or has succeeded.
    """
    if job.status not in RETRYABLE:
        raise NotRetryable(job.id, job.status)


def _request(db: Database, job_id: str, goals: Mapping[Status, Status], final: Status, reason: str) -> Job:
    with db.write() as connection:
        _bring(connection, job_id, goals, final, reason)
        job = read_job(connection, job_id)
    assert job is not None, "it is locked"
    return job


def _bring(
    connection: Connection, job_id: str, goals: Mapping[Status, Status], final: Status, reason: str
) -> None:
    current = lock(connection, job_id)
    if current not in goals:
        raise TransitionRefused(job_id, current, final)
    if goals[current] is not current:
        move(connection, goals[current], jobs.c.id == job_id, reason=reason)
