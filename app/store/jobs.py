from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from app.store.branches import check_not_branched, hold
from app.store.database import Database, db_now, tell_workers
from app.store.errors import AlreadyRetried, IdempotencyConflict, NotEnded, UnknownCursor
from app.store.events import add_event
from app.store.ids import new_id
from app.store.owners import check_waiting
from app.store.records import Job, JobError, Json
from app.store.scopes import NOBODY
from app.store.states import ENDED, Status
from app.store.tables import job_metadata, jobs
from app.store.transitions import lock, lock_experiment

_ERROR_COLUMNS = ("error_code", "error_message", "error_param")
_OF_A_RETRY = ("branched_from", "experiment", "variant", "seed")
_LINEAGE = ("parent", "branched_from")


def create_job(
    db: Database,
    *,
    spec: Json,
    resolved_spec: Json,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    priority: int = 0,
    max_attempts: int = 3,
    parent: Job | None = None,
    branched_from: str | None = None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
    owner: str = NOBODY,
    most_waiting: int | None = None,
) -> tuple[Job, bool]:
    """Store a queued job, its metadata and its first event.

    With `branched_from`, a checkpoint, it is a branch of `parent`, else another try of it, which starts from
    what that started from and takes its place in an experiment.

    It is its parent's owner's, or else `owner`'s, who may have `most_waiting` jobs queued or paused.

    Returns:
        The job, and whether it is new: false where the key was used before with the same request.

    Raises:
        IdempotencyConflict: the key was used before with another request.
        ExperimentNotFound: the parent's experiment is gone.
        AlreadyRetried: another job has the parent's place there, and has not ended.
        CheckpointGone: the checkpoint that it is to start from is not there any more.
        TooManyWaiting: the owner has as many waiting jobs as one may have.
    """
    owner = owner if parent is None else parent.owner
    row: Json = {
        "owner": owner,
        "name": name,
        "priority": priority,
        "max_attempts": max_attempts,
        "spec": spec,
        "resolved_spec": resolved_spec,
        "idempotency_key": idempotency_key,
        "request_hash": request_hash,
    }
    if parent is not None:
        row |= {"parent": parent.id, "branched_from": branched_from}
        row |= {} if branched_from else {name: getattr(parent, name) for name in _OF_A_RETRY}
    try:
        with db.write() as connection:
            if parent is not None and row.get("experiment") is not None:
                lock_experiment(connection, row["experiment"])
                _check_place(connection, parent)
            if row.get("branched_from") is not None:
                hold(connection, row["branched_from"])
            check_waiting(connection, owner, most_waiting, 1)
            return insert_job(connection, row, metadata or {}), True
    except IntegrityError:
        earlier = find_earlier(db, idempotency_key, request_hash, owner)
        if earlier is None:
            raise
    return earlier, False


def _check_place(connection: Connection, parent: Job) -> None:
    same = (jobs.c.experiment == parent.experiment) & (jobs.c.variant == parent.variant)
    going = select(jobs.c.id).where(same, jobs.c.seed == parent.seed, jobs.c.status.not_in(sorted(ENDED)))
    other: str | None = connection.execute(going.limit(1)).scalar_one_or_none()
    if other is not None:
        raise AlreadyRetried(parent.id, other)


def find_earlier(
    db: Database, idempotency_key: str | None, request_hash: str | None, owner: str = NOBODY
) -> Job | None:
    """Return the job that the owner's same request with this key gave before; None where the key is new.

    Raises:
        IdempotencyConflict: the key was used before with another request.
    """
    if idempotency_key is None:
        return None
    with db.read() as connection:
        mine = (jobs.c.owner == owner) & (jobs.c.idempotency_key == idempotency_key)
        found = _read(connection, select(jobs).where(mine))
    if found and found[0].request_hash != request_hash:
        raise IdempotencyConflict(idempotency_key)
    return found[0] if found else None


def get_job(db: Database, job_id: str) -> Job | None:
    """Return a job; None where there is none with this id."""
    with db.read() as connection:
        return read_job(connection, job_id)


def list_jobs(
    db: Database,
    after: str | None = None,
    limit: int = 20,
    status: Status | None = None,
    metadata: Mapping[str, str] | None = None,
    experiment: str | None = None,
    owner: str | None = None,
) -> tuple[list[Job], bool]:
    """Return up to `limit` jobs, newest first, and whether there are more.

    Args:
        db: the database.
        after: id of the last job of the page before.
        limit: at most so many jobs, at least 1.
        status: only jobs in this state.
        metadata: only jobs that have all these pairs.
        experiment: only jobs of the experiment with this id.
        owner: only jobs of this owner; `after` is then one of them, too.

    Raises:
        UnknownCursor: there is no job `after`.
    """
    query, place = _with_pairs(metadata or {})
    query = query.order_by(place.desc()).limit(limit + 1)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    if status is not None:
        query = query.where(jobs.c.status == status)
    if experiment is not None:
        query = query.where(jobs.c.experiment == experiment)
    with db.read() as connection:
        if after is not None:
            query = query.where(place < _cursor(connection, after, owner))
        found = _read(connection, query)
    return found[:limit], len(found) > limit


def delete_job(db: Database, job_id: str) -> None:
    """Delete an ended job with all its rows. Its files are the caller's to delete, afterwards.

    Raises:
        JobNotFound: there is no such job.
        NotEnded: the job has not ended.
        StillBranched: a job that has not ended starts from a checkpoint of it.
    """
    with db.write() as connection:
        current = lock(connection, job_id)
        if current not in ENDED:
            raise NotEnded(job_id, current)
        check_not_branched(connection, jobs.c.id == job_id)
        connection.execute(delete(jobs).where(jobs.c.id == job_id))


def counts_by_status(db: Database) -> dict[Status, int]:
    """Return how many jobs there are in each state, zeros included."""
    query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
    with db.read() as connection:
        found: dict[Status, int] = dict(iter(connection.execute(query)))
    return {status: found.get(status, 0) for status in Status}


def read_job(connection: Connection, job_id: str) -> Job | None:
    """Return a job as the caller's transaction sees it; None where there is none with this id."""
    found = _read(connection, select(jobs).where(jobs.c.id == job_id))
    return found[0] if found else None


def insert_job(connection: Connection, values: Mapping[str, object], metadata: Mapping[str, str]) -> Job:
    """Store a queued job with these columns, its metadata and first event, in the caller's transaction."""
    row = {
        "id": new_id("job"),
        "status": Status.QUEUED,
        "status_reason": "waiting for a worker",
        "created_at": db_now(),
        "attempt": 0,
        "lost_attempts": 0,
        **values,
    }
    job = connection.execute(insert(jobs).values(row).returning(jobs)).mappings().one()
    pairs = [{"job_seq": job["seq"], "key": key, "value": value} for key, value in metadata.items()]
    if pairs:
        connection.execute(insert(job_metadata), pairs)
    lineage = {name: job[name] for name in _LINEAGE if job[name] is not None}
    add_event(connection, job["seq"], "job.created", job["status_reason"], data=lineage)
    tell_workers(connection)
    return _job(job, dict(metadata))


def _with_pairs(metadata: Mapping[str, str]) -> tuple[Select[*tuple[Any, ...]], ColumnElement[int]]:
    """The jobs that have all pairs, and what to walk them by: the first pair's index, where there is one.

    By the jobs' own numbers, a list of the few with a rare pair would look at every job there is.
    """
    query: Select[*tuple[Any, ...]] = select(jobs)
    place: ColumnElement[int] = jobs.c.seq
    for number, (key, value) in enumerate(metadata.items()):
        pair = job_metadata.alias(f"pair_{number}")
        has = (pair.c.job_seq == jobs.c.seq) & (pair.c.key == key) & (pair.c.value == value)
        query = query.join(pair, has)
        if number == 0:
            place = pair.c.job_seq
    return query, place


def _cursor(connection: Connection, after: str, owner: str | None) -> int:
    query = select(jobs.c.seq).where(jobs.c.id == after)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    seq: int | None = connection.execute(query).scalar_one_or_none()
    if seq is None:
        raise UnknownCursor(after)
    return seq


def _read(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[Job]:
    rows = connection.execute(query).mappings().all()
    metadata: dict[int, dict[str, str]] = {row["seq"]: {} for row in rows}
    pairs = (
        select(job_metadata)
        .where(job_metadata.c.job_seq.in_(metadata))
        .order_by(job_metadata.c.job_seq, job_metadata.c.key)
    )
    for pair in connection.execute(pairs).mappings() if rows else ():
        metadata[pair["job_seq"]][pair["key"]] = pair["value"]
    return [_job(row, metadata[row["seq"]]) for row in rows]


def _job(row: RowMapping, metadata: dict[str, str]) -> Job:
    values = {name: value for name, value in row.items() if name not in _ERROR_COLUMNS}
    code, message, param = (row[name] for name in _ERROR_COLUMNS)
    error = JobError(code, message, param) if code is not None else None
    return Job(**values, metadata=metadata, error=error)
