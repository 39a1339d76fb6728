"""Versions of SQLite that one should not run several processes on."""

import sqlite3

from sqlalchemy import make_url

_FIRST, _LAST = (3, 7, 0), (3, 51, 2)
_MENDED = {(3, 44): 6, (3, 50): 7}  # by series: from which release on
_MENDED_IN = "3.51.3, 3.50.7 and 3.44.6"


def has_wal_reset_fault(version: tuple[int, ...]) -> bool:
    """Say whether a version may damage a database whose log is reset while another process looks at it."""
    if not _FIRST <= version <= _LAST:
        return False
    series, release = version[:2], version[2]
    return release < _MENDED.get((series[0], series[1]), release + 1)


def warning_of(url: str, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str | None:
    """Return a sentence about the fault where this program's SQLite has it and the database is SQLite's."""
    if make_url(url).get_backend_name() != "sqlite" or not has_wal_reset_fault(version):
        return None
    return (
        f"SQLite {'.'.join(map(str, version))} can rarely damage a database that several processes write to "
        f"(its WAL-reset fault, mended in {_MENDED_IN}): update SQLite, or use PostgreSQL, and keep backups"
    )
