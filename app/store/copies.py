"""Consistent copies of the whole database, made while others write to it."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url, text

from app.store.artifacts import StoredFile, stored_files
from app.store.database import Database
from app.store.errors import StoreUnavailable

Keep = Callable[[Iterable[StoredFile]], None]

_PATIENCE = 10.0  # seconds to wait for a lock
_DEBIAN = Path("/usr/lib/postgresql")


class CopyFailed(Exception):
    """The database could not be copied; the message says why and what to do."""


def copy_database(url: str, target: Path, keep: Keep) -> None:
    """Copy the database at `url` into a new file: SQLite as it is, PostgreSQL as `pg_dump` writes it.

    Args:
        url: the database.
        target: the file; it must not be there.
        keep: called with the files that the rows of the copy name, as soon as they are known.

    Raises:
        CopyFailed: there is no such database, it is damaged, or PostgreSQL's program is missing or fails.
        OSError: the file cannot be written.
    """
    # It holds the keys' hashes and all specs: nobody else is to read it.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    parsed = make_url(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            _dump_postgresql(url, target, keep)
        else:
            _copy_sqlite(Path(parsed.database or ""), target)
            _seal(target, keep)
    except StoreUnavailable as error:
        raise CopyFailed(f"the database does not answer: {error.__cause__}") from error


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CopyFailed(f"there is no database {source}")
    try:
        with (
            closing(sqlite3.connect(source, timeout=_PATIENCE)) as ours,
            closing(sqlite3.connect(target)) as copy,
        ):
            ours.backup(copy)  # in one step: all of it as it was at its beginning, whoever writes meanwhile
            damage = [row[0] for row in copy.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
            damage += [
                f"a row of {row[0]} refers to none" for row in copy.execute("PRAGMA foreign_key_check")
            ]
    except sqlite3.Error as error:
        raise CopyFailed(f"the database cannot be copied: {error}") from error
    if damage:
        raise CopyFailed(f"the database is damaged ({damage[0]}): `thaw doctor` says more")


def _seal(copy: Path, keep: Keep) -> None:
    """Let what the copy names be kept, and make it one file without a log beside it."""
    db = Database(f"sqlite:///{copy}")
    try:
        with db.read() as connection:
            keep(stored_files(connection))
    finally:
        db.dispose()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dump_postgresql(url: str, target: Path, keep: Keep) -> None:
    program = _find_pg_dump()
    parsed = make_url(url)
    address = parsed.set(drivername="postgresql", password=None)
    secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}  # not where `ps` shows it
    db = Database(url)
    try:
        with db.read() as connection:
            # The dump and the list of files are of one state. The files first: training lets go of them.
            state = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            keep(stored_files(connection))
            command = [
                program,
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                f"--snapshot={state}",
                f"--file={target}",
                f"--dbname={address.render_as_string()}",
            ]
            done = subprocess.run(
                command, env={**os.environ, **secret}, capture_output=True, text=True, check=False
            )
            if done.returncode:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                raise CopyFailed(f"pg_dump failed: {said[0]}")
    finally:
        db.dispose()


def _find_pg_dump() -> str:
    debian = sorted(_DEBIAN.glob("*/bin/pg_dump"), key=lambda path: float(path.parts[-3]))
    found = shutil.which("pg_dump") or (str(debian[-1]) if debian else None)
    if found is None:
        raise CopyFailed(
            "a backup of PostgreSQL needs its program pg_dump, which is not here: install the package "
            "postgresql-client, or run pg_dump --format=custom where PostgreSQL runs"
        )
    return found
