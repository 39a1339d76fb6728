import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_SHMSIZE
from sqlite3 import Connection as SQLiteConnection
from sqlite3 import Error as SQLiteError

from sqlalchemy import Connection, Double, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, DataError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.store.errors import NotMigrated, NotStorable, StoreUnavailable
from app.store.sqlite_log import Log

_BEGIN_MODE = "begin_mode"
_NEWS, _EVENTS = "news", "events"
_BUSY_MILLISECONDS = 10_000
_LOOK_AGAIN_SECONDS = (0.001, 0.005)

# A threaded server answers up to 40 requests at once, and each holds at most one connection.
_POOL_SIZE, _POOL_OVERFLOW = 8, 32
_LACKING = ("no such table", "no such column", "has no column named")  # in the words of SQLite


class _Now(FunctionElement[float]):
    type = Double()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _now_sqlite(element: _Now, compiler: SQLCompiler, **options: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_Now, "postgresql")
def _now_postgresql(element: _Now, compiler: SQLCompiler, **options: object) -> str:
    # Not clock_timestamp(): it is volatile, and a comparison with it would use no index.
    return "CAST(extract(epoch from statement_timestamp()) AS double precision)"


def db_now() -> _Now:
    """Return the SQL expression for now: Unix seconds by the database's clock, one value in a statement."""
    return _Now()


class Database:
    """One database, SQLite or PostgreSQL. Connects on first use, never when it is made."""

    def __init__(
        self,
        url: str,
        *,
        foreign_keys: bool = True,
        on_news: Callable[[], None] | None = None,
        on_events: Callable[[], None] | None = None,
        on_full: Callable[[], None] | None = None,
    ) -> None:
        """Prepare for `url`; `foreign_keys=False` is for migrations, which rebuild SQLite's tables.

        `on_news` is called after each transaction with something in it for workers, see `tell_workers`,
        `on_events` after each with events, see `tell_followers`, and `on_full` after each that failed because
        the database's disk is full.
        """
        told = {_NEWS: on_news, _EVENTS: on_events}
        self._told = {mark: tell for mark, tell in told.items() if tell is not None}
        self._on_full = on_full
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        self._log = Log(Path(f"{parsed.database}-wal")) if sqlite else None
        self.engine = create_engine(
            url,
            json_serializer=partial(json.dumps, allow_nan=False),
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_pre_ping=not sqlite,
        )
        if sqlite:
            _listen(self.engine, foreign_keys=foreign_keys)
        # SQLite's readers see one state anyhow.
        self._reading = (
            self.engine if sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writing = self.engine.execution_options(**{_BEGIN_MODE: "IMMEDIATE"})

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection for queries, which all see the same state; no write of it is kept."""
        with self._answering(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection that commits at the end, and rolls back on an error. Do no other I/O inside."""
        with self._answering(), self._writing.begin() as connection:
            for mark in self._told:
                connection.info.pop(mark, None)  # of one that was rolled back
            yield connection
            due = [tell for mark, tell in self._told.items() if connection.info.pop(mark, False)]
        for tell in due:
            tell()
        if self._log is not None:
            self._log.keep_short(self.engine)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn the drivers' many ways to say that a database is locked, full or away into one error."""
        try:
            yield
        except (OperationalError, InterfaceError, TimeoutError) as error:
            if self._on_full is not None and _is_full(error):
                self._on_full()
            raise (NotMigrated if _lacks_something(error) else StoreUnavailable)() from error
        except DataError as error:  # a NUL in a text, a number beyond its column
            raise NotStorable from error
        except DatabaseError as error:
            if _lacks_something(error):
                raise NotMigrated from error
            if type(error) is not DatabaseError:  # its kinds, as a broken constraint, are the caller's
                raise
            raise StoreUnavailable from error  # a file that is damaged, or no database at all

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            StoreUnavailable: it gives none.
        """
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close all connections; the next use opens new ones."""
        self.engine.dispose()


def shown(url: str) -> str:
    """Return a database's address without its password."""
    return make_url(url).render_as_string(hide_password=True)


def tell_workers(connection: Connection) -> None:
    """Let workers look, once the caller's transaction is committed: a job waits, or one is to be let go."""
    connection.info[_NEWS] = True


def tell_followers(connection: Connection) -> None:
    """Let servers look, once the caller's transaction is committed: there is an event for their streams."""
    connection.info[_EVENTS] = True


def _is_full(error: Exception) -> bool:
    """Say whether the disk has no room for the database, or for what it needs to be read."""
    cause = getattr(error, "orig", None)
    codes = {SQLITE_FULL, SQLITE_IOERR_SHMSIZE}
    return getattr(cause, "sqlite_errorcode", None) in codes or getattr(cause, "sqlstate", None) == "53100"


def _lacks_something(error: Exception) -> bool:
    """Say whether a table or a column is not there. SQLite has no code for it, its words alone."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, SQLiteError):
        return any(words in str(cause) for words in _LACKING)
    return getattr(cause, "sqlstate", None) in {"42P01", "42703"}


def _listen(engine: Engine, *, foreign_keys: bool) -> None:
    """Let SQLAlchemy, not the driver, begin transactions, and set what SQLite keeps per connection."""

    @event.listens_for(engine, "connect")
    def connect(connection: SQLiteConnection, record: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that begins as a reader and then writes fails at once if another wrote meanwhile.
        mode = connection.get_execution_options().get(_BEGIN_MODE)
        if mode is None:
            connection.exec_driver_sql("BEGIN DEFERRED")
        else:
            _begin_writing(connection, mode)


def _is_busy(error: OperationalError) -> bool:
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF == SQLITE_BUSY  # the rest says why


def _begin_writing(connection: Connection, mode: str) -> None:
    """Begin as soon as nobody else writes, or fail as SQLite does once it has waited long enough.

    SQLite itself looks less and less often while it waits, ten times a second in the end. With many writers,
    of whom one or another has the lock whenever it looks, it gives up on somebody now and then.
    """
    deadline = time.monotonic() + _BUSY_MILLISECONDS / 1000
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.exec_driver_sql(f"BEGIN {mode}")
                break
            except OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(*_LOOK_AGAIN_SECONDS))
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
