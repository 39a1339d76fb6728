"""What the server removes by itself: jobs and checkpoints that are older than the settings keep, and orphans.

Rows go first, then files: no row is ever without its files, and a file whose row is gone is an orphan, which
a later look finds.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from app.orphans import DAY, remove_orphans, total_bytes
from app.settings import Settings
from app.store import retention
from app.store.database import Database
from app.store.errors import StoreError, StoreUnavailable
from app.store.experiments import delete_experiment
from app.store.jobs import delete_job
from app.store.records import Checkpoint
from finetune.export.orders import remove_exports

log = structlog.get_logger()

EVERY_SECONDS = 3600.0

Old = Callable[[], list[str]]


def keep_house(db: Database, settings: Settings, stopping: threading.Event) -> None:
    """Tidies at once and then every hour, until `stopping` is set."""
    while not stopping.is_set():
        try:
            tidy(db, settings, stopping)
        except (StoreUnavailable, OSError) as error:
            log.warning("the housekeeping was broken off", error=str(error))
        except Exception:  # whatever it is, the next hour's may do
            log.exception("the housekeeping broke")
        stopping.wait(EVERY_SECONDS)


def tidy(db: Database, settings: Settings, stopping: threading.Event) -> None:
    """Removes what is due, all of it, or what it gets to before `stopping` is set.

    Raises:
        StoreUnavailable: the database does not answer.
        OSError: the home folder cannot be written to.
    """
    if settings.job_days:
        seconds = settings.job_days * DAY
        _drop_experiments(db, settings, stopping, seconds)
        _drop_jobs(db, settings, stopping, seconds)
    if settings.checkpoint_days:
        _thin_checkpoints(db, settings, stopping, settings.checkpoint_days * DAY)
    if not stopping.is_set():
        gone = remove_orphans(db, settings.artifacts_dir, settings.orphans_file, time.time())
        if gone:
            log.warning("removed artifacts that belong to no row", number=len(gone), bytes=total_bytes(gone))


def _drop_experiments(db: Database, settings: Settings, stopping: threading.Event, seconds: float) -> None:
    for experiment in _each(lambda: retention.old_experiments(db, seconds), stopping):
        with _unless_refused(experiment):
            jobs = delete_experiment(db, experiment)
            for job in jobs:
                shutil.rmtree(settings.artifacts_dir / job, ignore_errors=True)
            log.info("removed an old experiment", experiment=experiment, jobs=len(jobs))


def _drop_jobs(db: Database, settings: Settings, stopping: threading.Event, seconds: float) -> None:
    for job in _each(lambda: retention.old_jobs(db, seconds), stopping):
        with _unless_refused(job):
            delete_job(db, job)
            shutil.rmtree(settings.artifacts_dir / job, ignore_errors=True)
            log.info("removed an old job", job=job)


def _thin_checkpoints(db: Database, settings: Settings, stopping: threading.Event, seconds: float) -> None:
    artifacts = settings.artifacts_dir
    for job in _each(lambda: retention.jobs_with_old_checkpoints(db, seconds), stopping):
        with _unless_refused(job):
            gone = retention.drop_all_but_best(db, job)
            for one in gone:
                for path in one.paths:
                    (artifacts / path).unlink(missing_ok=True)
                if isinstance(one, Checkpoint):
                    remove_exports(artifacts, job, one.id)
            log.info("removed checkpoints of an old job", job=job, checkpoints=len(gone))


def _each(old: Old, stopping: threading.Event) -> Iterator[str]:
    """All that are old, a batch at a time; those that could not be removed are given once."""
    tried = set[str]()
    while fresh := [name for name in old() if name not in tried]:
        for name in fresh:
            if stopping.is_set():
                return
            tried.add(name)
            yield name


@contextmanager
def _unless_refused(what: str) -> Iterator[None]:
    """Leaves alone what the store does not let go: somebody was quicker, or needs it since a moment ago."""
    try:
        yield
    except StoreUnavailable:
        raise
    except StoreError as refusal:
        log.info("kept for now", what=what, reason=str(refusal))
