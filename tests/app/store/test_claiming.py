"""Many processes that take jobs from one queue, on both databases."""

import subprocess
import sys

import pytest
from sqlalchemy import insert, select

from app.store import jobs as stored
from app.store.database import Database, db_now
from app.store.ids import new_id
from app.store.states import Status
from app.store.tables import attempts, jobs

WORKERS = 16

# Forks so many workers, each with a connection of its own, whose attempts succeed as soon as they begin.
WORK = """
import os
import sys
from app.store.attempts import claim, finish, heartbeat
from app.store.database import Database
from app.store.states import Status


def work(name):
    db = Database(sys.argv[1])
    while held := claim(db, name, 60):
        assert heartbeat(db, held, 60) is Status.RUNNING
        finish(db, held, Status.SUCCEEDED, "done")
    db.dispose()


pids = []
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        try:
            work(f"worker {number}")
            os._exit(0)
        except Exception as error:
            print(repr(error), repr(error.__cause__), flush=True)
            os._exit(1)
    pids.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in pids))
"""


@pytest.fixture
def fill(db):
    """Stores so many jobs at once."""

    def store(count):
        row = {"status": Status.QUEUED, "status_reason": "waiting", "priority": 0, "attempt": 0}
        row |= {"lost_attempts": 0, "max_attempts": 1, "spec": {}, "resolved_spec": {}}
        with db.write() as connection:
            rows = [{**row, "id": new_id("job")} for _ in range(count)]
            connection.execute(insert(jobs).values(created_at=db_now()), rows)

    return store


@pytest.mark.promise("Many workers take each job once, and none meets a locked database")
@pytest.mark.timeout(1200)
def test_sixteen_processes_take_each_of_a_thousand_jobs_once(db, url, fill, long, tried):
    count = 4_000 if long else 1_000
    fill(count)
    tried(count)
    command = [sys.executable, "-W", "error", "-c", WORK, url, str(WORKERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stored.counts_by_status(db)[Status.SUCCEEDED] == count
    check_each_was_tried_once(db, count)


def check_each_was_tried_once(db: Database, count: int) -> None:
    with db.read() as connection:
        tries = connection.execute(select(attempts)).all()
        numbers = connection.execute(select(jobs.c.attempt, jobs.c.lost_attempts)).all()
    assert len(tries) == count
    assert len({attempt.job_seq for attempt in tries}) == count
    assert {attempt.outcome for attempt in tries} == {"succeeded"}
    assert set(map(tuple, numbers)) == {(1, 0)}
    assert len({attempt.worker for attempt in tries}) > WORKERS // 2
