"""Starts a worker: `python -m worker`."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import structlog

from app.logs import configure
from app.settings import SettingsError, load_settings
from app.store.database import Database
from app.store.doorbells import ring
from app.store.errors import NotMigrated, StoreUnavailable
from app.store.migrate import is_current
from app.store.sqlite_faults import warning_of
from worker.engine import LocalEngine
from worker.reserve import Reserve
from worker.supervisor import Supervisor

log = structlog.get_logger()


def main() -> int:
    """Works until SIGTERM or SIGINT; a second one waits for nothing. Returns the exit code."""
    configure()
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    reserve = Reserve(settings.home_dir)
    db = Database(
        settings.database_url,
        on_news=partial(ring, settings.doorbells_dir),
        on_events=partial(ring, settings.feed_doorbells_dir),
        on_full=reserve.give_up,
    )
    try:
        current = is_current(db)
    except StoreUnavailable:
        current = False
    if not current:
        sys.stderr.write(f"{NotMigrated()}\n")
        return 2
    if fault := warning_of(settings.database_url):
        log.warning(fault)
    # Weights that are downloaded go where everything else goes, which in a container outlives it.
    os.environ.setdefault("TORCH_HOME", str(settings.home_dir / "torch"))
    os.environ.setdefault("HF_HOME", str(settings.home_dir / "huggingface"))  # timm's, from Hugging Face
    _on_stop(_leave)
    try:
        engine = LocalEngine()
        for backbone, reason in engine.warm_up(settings.backbones).items():
            log.warning("a backbone cannot be used", backbone=backbone, reason=reason)
        supervisor = Supervisor(settings, db, engine)
        _on_stop(lambda number, frame: supervisor.stop())
        supervisor.work()
    finally:
        db.dispose()
    return 0


def _on_stop(handler: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends a worker that is not ready yet: it holds no job that would have to be given back."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
