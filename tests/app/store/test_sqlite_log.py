import itertools
import secrets
import threading
import time
from contextlib import closing

import pytest

from app.store import sqlite_log
from app.store.attempts import heartbeat
from tests.databases import only_sqlite

pytestmark = only_sqlite


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_log, "MOST_BYTES", 1_000_000)
    return tmp_path / "thaw.db-wal"


@pytest.fixture
def write(db, post, take):
    post()
    held = take()
    return lambda: heartbeat(db, held, 60, {"notes": secrets.token_hex(50_000)})


def test_a_log_that_grew_is_emptied_though_somebody_always_reads(db, log, write, monkeypatch):
    monkeypatch.setattr(sqlite_log, "_READERS_MILLISECONDS", 10_000)
    monkeypatch.setattr(sqlite_log, "_REST_SECONDS", 0.1)
    enough = threading.Event()

    def read():
        while not enough.is_set():
            with db.read() as reader:
                reader.exec_driver_sql("SELECT count(*) FROM jobs").all()
                time.sleep(0.01)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        _until(write, lambda: log.stat().st_size >= 900_000)
        _until(write, lambda: log.stat().st_size <= 200_000)
    finally:
        enough.set()
        for reader in readers:
            reader.join()


def _until(write, true, seconds=60):
    """Write until it is true. SQLite by itself never makes a log's file shorter."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        write()


def test_a_reader_that_stays_is_waited_for_now_and_then_and_not_with_every_write(db, log, write, monkeypatch):
    monkeypatch.setattr(sqlite_log, "_READERS_MILLISECONDS", 100)
    tries = []

    def count(connection):
        tries.append(time.monotonic())
        return closing(connection)

    monkeypatch.setattr(sqlite_log, "closing", count)
    with db.read() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM jobs").all()
        for _ in range(40):
            write()
        assert log.stat().st_size > 1_000_000
    assert tries
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert all(pause >= sqlite_log._REST_SECONDS for pause in pauses)


def test_connections_are_as_patient_as_before(db, log, write):
    for _ in range(30):
        write()
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 10_000
