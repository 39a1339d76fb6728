"""A worker that lives keeps its job, whatever holds the database up."""

import sqlite3
import time

import pytest
from sqlalchemy import create_engine, text

from app.store import database, leases
from app.store.events import list_events
from app.store.states import Status
from tests.databases import url  # both kinds, where this folder's other tests have SQLite alone

__all__ = ["url"]

LEASE = 2.0


@pytest.fixture
def lock(url, tmp_path):
    """Locks the database against everybody for so many seconds."""

    def hold(seconds):
        if url.startswith("sqlite"):
            other = sqlite3.connect(tmp_path / "thaw.db", isolation_level=None, timeout=10)
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
            other.close()
            return
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            time.sleep(seconds)
        engine.dispose()

    return hold


@pytest.mark.promise("The job of a worker that lives is never taken, with a database locked for half a lease")
@pytest.mark.parametrize("driver", ["waits", "gives up soon"])
def test_job_of_a_worker_that_lives_is_never_taken(
    db, training, hire, look, lock, long, tried, driver, monkeypatch
):
    if driver == "gives up soon":
        monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 20)
    job, _, attempt = training(lease_seconds=LEASE, spec={"max_attempts": 1})
    hire(lease_seconds=LEASE)  # who would take it
    times = 30 if long else 2
    tried(times)
    for step in range(times):
        lock(LEASE / 2)
        for _ in range(5 + step):
            assert leases.sweep(db) == []
            attempt.progress(step)
            time.sleep(0.05)
    after = look(job)
    assert (after.status, after.attempt, after.lost_attempts) == (Status.RUNNING, 1, 0)
    assert not any(event.level != "info" for event in list_events(db, job))
    attempt.succeed()
