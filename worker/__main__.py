"""Starts a worker: `python -m worker`."""

import os
import signal
import sys
from functools import partial
from types import FrameType

import structlog

from app.logs import configure
from app.settings import SettingsError, load_settings
from app.store.database import Database
from app.store.doorbells import ring
from app.store.errors import StoreUnavailable
from app.store.migrate import is_current
from worker.engine import LocalEngine
from worker.supervisor import Supervisor

log = structlog.get_logger()


def main() -> int:
    """Works until SIGTERM or SIGINT. Returns the exit code."""
    configure()
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    db = Database(settings.database_url, on_news=partial(ring, settings.doorbells_dir))
    try:
        current = is_current(db)
    except StoreUnavailable:
        current = False
    if not current:
        sys.stderr.write("the database is not of this version: run `thaw up`, or `python -m app migrate`\n")
        return 2
    # Weights that are downloaded go where everything else goes, which in a container outlives it.
    os.environ.setdefault("TORCH_HOME", str(settings.home_dir / "torch"))
    os.environ.setdefault("HF_HOME", str(settings.home_dir / "huggingface"))  # timm's, from Hugging Face
    engine = LocalEngine()
    supervisor = Supervisor(settings, db, engine)

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        for backbone, reason in engine.warm_up(settings.backbones).items():
            log.warning("a backbone cannot be used", backbone=backbone, reason=reason)
        supervisor.work()
    finally:
        db.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
