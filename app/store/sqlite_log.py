"""SQLite's log, which readers who come one after the other keep from ever being begun anew."""

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

MOST_BYTES = 16 * 2**20  # above which a writer sees to it
_READERS_MILLISECONDS = 500  # that it waits for readers, and others wait for it
_REST_SECONDS = 3.0  # until it is tried again where somebody reads for longer


class Log:
    """The log of one database, as one process sees it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rested = 0.0

    def keep_short(self, engine: Engine) -> None:
        """Take the log over into the database, and empty it, if it has grown. To be called between writes."""
        if time.monotonic() < self._rested or not self._is_long():
            return
        # The write is done, whatever comes of this.
        with suppress(sqlite3.Error, SQLAlchemyError), closing(engine.raw_connection()) as connection:
            driver = connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            (patience,) = driver.execute("PRAGMA busy_timeout").fetchone()
            driver.execute(f"PRAGMA busy_timeout = {_READERS_MILLISECONDS}")
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                driver.execute(f"PRAGMA busy_timeout = {patience}")
        if self._is_long():
            self._rested = time.monotonic() + _REST_SECONDS

    def _is_long(self) -> bool:
        try:
            return self._file.stat().st_size > MOST_BYTES
        except OSError:
            return False
