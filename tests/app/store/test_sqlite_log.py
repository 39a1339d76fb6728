import time

import pytest

from app.store import sqlite_log
from app.store.attempts import heartbeat
from tests.databases import only_sqlite

pytestmark = only_sqlite
LARGE = {"notes": "x" * 100_000}


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_log, "MOST_BYTES", 1_000_000)
    return tmp_path / "thaw.db-wal"


@pytest.fixture
def write(db, post, take):
    post()
    held = take()
    return lambda: heartbeat(db, held, 60, LARGE)


def test_a_log_stays_short_though_somebody_always_reads(db, log, write):
    for _ in range(50):
        with db.read() as reader:  # begins before the write and ends after it
            reader.exec_driver_sql("SELECT count(*) FROM jobs")
            write()
    for _ in range(12):
        write()
    assert log.stat().st_size <= 1_200_000


def test_a_reader_that_stays_costs_writers_one_wait(db, log, write, monkeypatch):
    monkeypatch.setattr(sqlite_log, "_READERS_MILLISECONDS", 300)
    with db.read() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM jobs")
        write()
        begun = time.monotonic()
        for _ in range(60):
            write()
        assert log.stat().st_size > 1_000_000
        reader.exec_driver_sql("SELECT count(*) FROM jobs")  # it still sees its own state
    assert time.monotonic() - begun < 60 * 0.3


def test_connections_are_as_patient_as_before(db, log, write):
    for _ in range(30):
        write()
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000
