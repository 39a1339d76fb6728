"""Starts a worker: `python -m worker`."""

import signal
import sys
from types import FrameType

import structlog

from app.settings import SettingsError, load_settings
from app.store.database import Database
from app.store.migrate import is_current
from worker.engine import LocalEngine
from worker.supervisor import Supervisor


def main() -> int:
    """Works until SIGTERM or SIGINT. Returns the exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    db = Database(settings.database_url)
    if not is_current(db):
        sys.stderr.write("the database is not of this version: run `thaw up`, or `python -m app migrate`\n")
        return 2
    engine = LocalEngine()
    supervisor = Supervisor(settings, db, engine)

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        engine.warm_up()
        supervisor.work()
    finally:
        db.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
