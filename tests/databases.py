"""A private PostgreSQL for tests: a cluster in a folder of its own that ends with the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.migrate import is_current, migrate
from app.store.tables import metadata

SHARED = "shared"
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


class Cluster:
    """A server on a socket in `folder`, as a user who may run one: PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        self._owner = self._user or pwd.getpwuid(os.geteuid()).pw_name
        self._run("initdb", "-D", self._data, "-U", self._owner, "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        """Starts the server."""
        settings = {**FAST, "listen_addresses": "", "unix_socket_directories": str(self._folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Ends the server, whoever is still connected."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql+psycopg://{self._owner}@/{name}?host={self._folder}"

    def empty_database(self) -> str:
        """The address of a database at the newest revision without rows. It is the same one each time."""
        db = Database(self.url(SHARED))
        try:
            if is_current(db):
                names = ", ".join(metadata.tables)
                with db.write() as connection:
                    connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
                return self.url(SHARED)
        except StoreUnavailable:  # there is none yet
            pass
        finally:
            db.dispose()
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {SHARED} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {SHARED}"))
        engine.dispose()
        migrate(self.url(SHARED))
        return self.url(SHARED)

    def _run(self, program: str, *arguments: object) -> None:
        """Runs one of PostgreSQL's programs.

        Raises:
            RuntimeError: it fails; the message has what it printed.
        """
        with tempfile.TemporaryFile() as said:  # a pipe would be held open by the server that it starts
            command = [find_program(program), *map(str, arguments)]
            code = subprocess.run(
                command, stdout=said, stderr=said, user=self._user, cwd=self._folder, check=False
            ).returncode
            said.seek(0)
            if code:
                raise RuntimeError(f"{program} failed: {said.read().decode()}")


def find_program(program: str) -> str:
    """The newest installed PostgreSQL's program.

    Raises:
        RuntimeError: there is none. Tests of a database that is missing fail; they do not pass unseen.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda p: int(p.parts[4]))
    found = shutil.which(program) or (str(debian[-1]) if debian else None)
    if found is None:
        raise RuntimeError(f"the tests need PostgreSQL's {program}: apt-get install postgresql")
    return found


# For tests of what SQLite alone has: its file, its locks, its pragmas, its own tables.
only_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A running PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="thaw-pg-") as name:
        cluster = Cluster(Path(name))
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database at the newest revision, of either kind in turn."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path / 'thaw.db'}"
        migrate(made)
        return made
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.empty_database()
