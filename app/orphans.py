"""Artifacts that belong to no row: what a power cut, a killed server or a late worker has left.

A file counts as left when nobody may still be writing it, or about to write its row: its job has ended or is
deleted, and it has not changed for a day. It is removed a day after it was first seen so. Where the folder
meets a database that is not its own, as after a mistake with a setting or a backup, that day is the time to
notice it.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

from app.store.artifacts import files_of_jobs
from app.store.database import Database

DAY = 86_400.0
JOB = re.compile(r"job_[0-9a-f]{24}")
TOGETHER = 200  # jobs that are looked up at once


@dataclass(frozen=True)
class Orphan:
    """A file, or a whole job's folder: its path below the artifacts folder, and its bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    changed: float


def find_orphans(db: Database, artifacts: Path, now: float) -> list[Orphan]:
    """All there are. `now` is in Unix seconds, as the files' times are."""
    found = list[Orphan]()
    names = _job_folders(artifacts)
    for start in range(0, len(names), TOGETHER):
        # The files first: a row that was committed meanwhile is seen.
        files = {name: _files(artifacts, name) for name in names[start : start + TOGETHER]}
        rows = files_of_jobs(db, list(files))
        for name, inside in files.items():
            row = rows.get(name)
            if row is None:
                if all(now - file.changed > DAY for file in inside):
                    found.append(Orphan(name, sum(file.size for file in inside)))
            elif row.ended:
                left = (f for f in inside if f.path not in row.paths and now - f.changed > DAY)
                found += [Orphan(file.path, file.size) for file in left if file.path != name]
    return found


def remove_orphans(db: Database, artifacts: Path, sightings: Path, now: float) -> list[Orphan]:
    """Removes those that were seen for the first time more than a day ago; notes all others in `sightings`.

    Returns:
        What was removed.

    Raises:
        StoreUnavailable: the database does not answer.
        OSError: what was seen cannot be noted.
    """
    before = _read(sightings)
    seen = {orphan: before.get(orphan.path, now) for orphan in find_orphans(db, artifacts, now)}
    due = [orphan for orphan, first in seen.items() if now - first > DAY]
    for orphan in due:
        _remove(artifacts, orphan.path)
    _write(sightings, {orphan.path: first for orphan, first in seen.items() if orphan not in due})
    return due


def _job_folders(artifacts: Path) -> list[str]:
    with suppress(FileNotFoundError), os.scandir(artifacts) as entries:
        return sorted(e.name for e in entries if JOB.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
    return []


def _files(artifacts: Path, name: str) -> list[_File]:
    """The files in a job's folder, and the folder itself, which changes with what is made in it."""
    return [found for path in _walk(artifacts / name) if (found := _look(artifacts, path)) is not None]


def _walk(folder: Path) -> Iterator[Path]:
    yield folder
    for place, _, files in os.walk(folder):
        yield from (Path(place, file) for file in files)


def _look(artifacts: Path, path: Path) -> _File | None:
    try:
        stat = path.lstat()
    except FileNotFoundError:  # it was removed just now
        return None
    size = 0 if S_ISDIR(stat.st_mode) else stat.st_size
    return _File(path.relative_to(artifacts).as_posix(), size, stat.st_mtime)


def _remove(artifacts: Path, path: str) -> None:
    target = artifacts / path
    if JOB.fullmatch(path):
        shutil.rmtree(target, ignore_errors=True)
        return
    with suppress(OSError):
        target.unlink()
        _remove_empty(target.parent, artifacts)


def _remove_empty(folder: Path, artifacts: Path) -> None:
    while folder != artifacts:
        folder.rmdir()  # fails, and ends this, where something is left in it
        folder = folder.parent


def _read(sightings: Path) -> dict[str, float]:
    try:
        noted = json.loads(sightings.read_bytes())
        return {str(path): float(first) for path, first in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged: the day begins anew
        return {}


def _write(sightings: Path, seen: dict[str, float]) -> None:
    if not seen and not sightings.exists():
        return
    temporary = sightings.with_name(f".{sightings.name}.tmp")
    temporary.write_text(json.dumps(seen, indent=0))
    temporary.replace(sightings)


def total_bytes(orphans: Sequence[Orphan]) -> int:
    """The bytes of all of them."""
    return sum(orphan.size for orphan in orphans)
