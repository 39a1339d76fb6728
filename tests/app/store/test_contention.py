"""SQLite under more writers and readers than any installation has."""

import time

import pytest

from tests.databases import only_sqlite

WRITERS, READERS = 8, 2  # processes; each that reads does so in ten threads
MOST_LOG = 64 * 2**20  # bytes
SIZE = 200_000  # of each heartbeat: a log that is never taken over would reach the limit in seconds


@only_sqlite
@pytest.mark.promise(
    "SQLite with eight writers and twenty readers answers all of them, and stays small and sound"
)
def test_eight_writers_and_twenty_readers_are_all_answered(db, url, traffic, long, tried, tmp_path):
    log = tmp_path / "thaw.db-wal"
    db.ping()  # a connection that stays: the last one to close would remove the log
    largest = 0
    with traffic(WRITERS, READERS, SIZE) as said:
        end = time.monotonic() + (60 if long else 6)
        while time.monotonic() < end:
            time.sleep(0.1)
            largest = max(largest, log.stat().st_size)
    done, refused = [process["done"] for process in said], [process["refused"] for process in said]
    print(f"{done}; the log had at most {largest:,} bytes, and {log.stat().st_size:,} afterwards")
    assert refused == [[]] * len(said)
    assert log.stat().st_size < MOST_LOG
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    tried(sum(sum(process.values()) for process in done))
