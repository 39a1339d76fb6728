"""Which files the rows name. Paths are relative to the artifacts folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from app.store.database import Database
from app.store.states import ENDED
from app.store.tables import checkpoints, jobs, reports, states

_FILES = (  # where rows name files: path, size in bytes, SHA-256
    (checkpoints, "path", "size", "sha256"),
    (checkpoints, "state_path", "state_size", "state_sha256"),
    (states, "path", "size", "sha256"),
    (reports, "path", "size", "sha256"),
    (reports, "predictions_path", "predictions_size", "predictions_sha256"),
)


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


def stored_files(connection: Connection) -> Iterator[StoredFile]:
    """Give the files of all checkpoints, states and reports. Exports are left out: they are made anew.

    Those of jobs that have not ended come first, from queries that find few: they may go at any moment.
    """
    going = select(jobs.c.seq).where(jobs.c.status.not_in(sorted(ENDED)))
    for ended in (False, True):
        for table, *names in _FILES:
            path, size, sha256 = (table.c[name] for name in names)
            theirs = table.c.job_seq.not_in(going) if ended else table.c.job_seq.in_(going)
            rows = connection.execute(select(path, size, sha256).where(path.is_not(None), theirs))
            yield from (StoredFile(*row) for row in rows)


def files_of_jobs(db: Database, job_ids: Sequence[str]) -> dict[str, JobFiles]:
    """Return the files of each of these jobs; one that has no row has no entry."""
    of_them = jobs.c.id.in_(job_ids)
    with db.read() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.seq, jobs.c.status).where(of_them)).all()
        paths: dict[int, set[str]] = {seq: set() for _, seq, _ in rows}
        for table, name, *_ in _FILES:
            path = table.c[name]
            ours = select(table.c.job_seq, path).where(table.c.job_seq.in_(paths), path.is_not(None))
            for seq, named in connection.execute(ours):
                paths[seq].add(named)
        exported = select(checkpoints.c.job_seq, checkpoints.c.exports).where(
            checkpoints.c.job_seq.in_(paths), checkpoints.c.exports.is_not(None)
        )
        for seq, exports in connection.execute(exported):
            paths[seq] |= {export["path"] for export in exports.values()}
    return {job_id: JobFiles(status in ENDED, frozenset(paths[seq])) for job_id, seq, status in rows}
