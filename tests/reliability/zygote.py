"""A process that has torch loaded and forks workers, so that a test can kill hundreds of them in a minute.

Each line on its standard input starts a worker, and is answered by the worker's process id. The line says, as
JSON, where the worker or its attempt is to fail: null, or `{"side", "at", "kind"}`. What is forked is the
supervisor as it is, and from it the attempt as it is; only the fork server between them is left out.
"""

import errno
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

import worker.preload  # noqa: F401  # torch, and all that attempts need
from app.settings import Settings, load_settings
from app.store.database import Database
from app.store.doorbells import ring
from finetune import disk as disks
from worker import attempt as attempts
from worker.engine import LocalAttempt, LocalEngine
from worker.orders import Order
from worker.reserve import Reserve
from worker.supervisor import Supervisor

FORK: Any = multiprocessing.get_context("fork")
WRITES = ("checkpoints", "epochs", "states")  # tables of what an epoch leaves


class ForkEngine(LocalEngine):
    """Forks attempts from their worker."""

    def __init__(self, db: Database, faults: "Faults") -> None:
        self._db, self._faults = db, faults

    def start(self, order: Order) -> LocalAttempt:
        """See `worker.engine.Engine`."""
        self._db.dispose()  # no connection is taken along
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_attempt, args=(order, ours, theirs, self._faults))
        process.start()
        theirs.close()
        return LocalAttempt(process, ours)


def _attempt(order: Order, ours: Connection, theirs: Connection, faults: "Faults") -> None:
    ours.close()  # or the end of the supervisor would not be seen
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    faults.side = "attempt"
    attempts.run(order, theirs)


class Faults:
    """Numbers the operations of a worker and of its attempts that last, and lets one of them fail.

    Each side counts its own, so that the numbers are the same every time. `kind` is "exit": the process is
    gone before the operation, or in the middle of a write; "once": there is no room for it; "for good":
    there is none from then on, for either side.
    """

    def __init__(self, plan: dict[str, Any] | None, log: Path) -> None:
        self.plan, self.side, self._log = plan, "worker", log
        self._counts = {side: FORK.Value("i", 0) for side in ("worker", "attempt")}
        self._full = FORK.Value("b", False)

    @property
    def full(self) -> bool:
        """Whether there is no room any more."""
        return bool(self._full.value)

    def reach(self, what: str, about: str) -> bool:
        """Counts an operation; says whether it is to fail."""
        count = self._counts[self.side]
        with count.get_lock():
            count.value += 1
            number = count.value
        with self._log.open("a") as log:
            log.write(json.dumps({"side": self.side, "at": number, "what": what, "about": about}) + "\n")
        if self.plan is None or (self.side, number) != (self.plan["side"], self.plan["at"]):
            return self.full
        if self.plan["kind"] == "for good":
            self._full.value = True
        return True

    def fail(self) -> None:
        """Fails as planned."""
        if self.plan is not None and self.plan["kind"] == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FaultyDisk(disks.Disk):
    """The machine's disk, but for what `Faults` say."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def write(self, path: Path, write: Callable[[Path], object]) -> None:
        """See `Disk`. What fails is half written."""
        if not self._faults.reach("write", path.name):
            return super().write(path, write)
        super().write(path, write)
        os.truncate(path, path.stat().st_size // 2)
        return self._faults.fail()

    def sync(self, path: Path) -> None:
        """See `Disk`."""
        if self._faults.reach("fsync", path.name):
            self._faults.fail()
        super().sync(path)

    def rename(self, old: Path, new: Path) -> None:
        """See `Disk`."""
        if self._faults.reach("rename", new.name):
            self._faults.fail()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        """See `Disk`. Removing needs no room."""
        plan = self._faults.plan
        if self._faults.reach("remove", path.name) and plan is not None and plan["kind"] == "exit":
            self._faults.fail()
        super().remove(path)


def watch_commits(db: Database, faults: Faults, reserve: Path) -> None:
    """Counts the transactions that an epoch leaves; where there is no room, none of any kind is committed.

    Once the reserve is given up, there is room again for the database.
    """
    touched = list[str]()

    @event.listens_for(db.engine, "before_cursor_execute")
    def look(_c: object, _cursor: object, sql: str, *_: object) -> None:
        verb, *words = sql.split(maxsplit=3)
        if verb in ("INSERT", "DELETE") and words[1] in WRITES:
            touched.append(f"{verb} {words[1]}")

    @event.listens_for(db.engine, "begin")
    def begin(_c: object) -> None:
        touched.clear()

    @event.listens_for(db.engine, "commit")
    def commit(_c: object) -> None:
        failing = bool(touched) and faults.reach("commit", ", ".join(touched))
        if failing and faults.plan is not None and faults.plan["kind"] == "exit":
            faults.fail()
        if (failing and not faults.full) or (faults.full and reserve.exists()):
            cause = sqlite3.OperationalError("database or disk is full")
            cause.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError("COMMIT", {}, cause)


def work(settings: Settings, plan: dict[str, Any] | None) -> None:
    """What `python -m worker` does."""
    faults = Faults(plan, settings.home_dir / "operations.jsonl")
    disks.use(FaultyDisk(faults))
    reserve = Reserve(settings.home_dir)
    db = Database(
        settings.database_url, on_news=partial(ring, settings.doorbells_dir), on_full=reserve.give_up
    )
    watch_commits(db, faults, settings.home_dir / "reserve")
    supervisor = Supervisor(settings, db, ForkEngine(db, faults))
    signal.signal(signal.SIGTERM, lambda number, frame: supervisor.stop())
    supervisor.work()


def main() -> None:
    """Forks until its standard input ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    settings = load_settings()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                work(settings, json.loads(line))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
