"""Which files the rows name. Paths are relative to the artifacts folder."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from app.store.database import Database
from app.store.states import ENDED
from app.store.tables import checkpoints, jobs, reports


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a row names, with what it must be; sizes in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one job, those in other formats included; `ended` says whether others may follow."""

    ended: bool
    paths: frozenset[str]


def stored_files(connection: Connection) -> list[StoredFile]:
    """Return the files of all checkpoints and reports. Exports are not among them: they can be made again."""
    found = []
    for table, names in (
        (checkpoints, ("path", "size", "sha256")),
        (checkpoints, ("state_path", "state_size", "state_sha256")),
        (reports, ("path", "size", "sha256")),
        (reports, ("predictions_path", "predictions_size", "predictions_sha256")),
    ):
        path, size, sha256 = (table.c[name] for name in names)
        rows = connection.execute(select(path, size, sha256).where(path.is_not(None)))
        found += [StoredFile(*row) for row in rows]
    return found


def files_of_jobs(db: Database, job_ids: Sequence[str]) -> dict[str, JobFiles]:
    """Return the files of each of these jobs; one that has no row has no entry."""
    of_them = jobs.c.id.in_(job_ids)
    paths: dict[str, set[str]] = {}
    with db.read() as connection:
        found = connection.execute(select(jobs.c.id, jobs.c.status).where(of_them)).all()
        paths = {job_id: set() for job_id, _ in found}
        ours = (
            select(jobs.c.id, checkpoints.c.path, checkpoints.c.state_path, checkpoints.c.exports)
            .join(checkpoints, checkpoints.c.job_seq == jobs.c.seq)
            .where(of_them)
        )
        for job_id, path, state, exports in connection.execute(ours):
            paths[job_id] |= {path, state, *(export["path"] for export in (exports or {}).values())}
        told = (
            select(jobs.c.id, reports.c.path, reports.c.predictions_path)
            .join(reports, reports.c.job_seq == jobs.c.seq)
            .where(of_them)
        )
        for job_id, path, predictions in connection.execute(told):
            paths[job_id] |= {path, predictions}
    return {job_id: JobFiles(status in ENDED, frozenset(paths[job_id] - {None})) for job_id, status in found}
