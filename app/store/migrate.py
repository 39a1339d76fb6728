from functools import cache
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text

from app.store.database import Database

_POSTGRESQL_LOCK = 8321_0001  # any number that nothing else on the server locks


def migrate(url: str) -> None:
    """Bring the database to the newest revision, making an SQLite file and its folder where there are none.

    Any number of processes may do it at once: one works, the others wait for it.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and target.database:
        Path(target.database).parent.mkdir(parents=True, exist_ok=True)
    # Rebuilding a table drops the old one, which with foreign keys on deletes what refers to its rows.
    db = Database(url, foreign_keys=False)
    try:
        with db.write() as connection:
            _wait_for_others(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        db.dispose()


def is_current(db: Database) -> bool:
    """Say whether the database is at the newest revision that this program knows."""
    with db.read() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == _heads()


def _wait_for_others(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's write lock is held already
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _POSTGRESQL_LOCK})


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    return config


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(_config()).get_heads())
