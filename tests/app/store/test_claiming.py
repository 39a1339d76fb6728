"""Many workers, many jobs: real supervisors in processes of their own, on both databases."""

import os
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

# Forks so many workers, whose attempts succeed as soon as they begin. They end when standard input does.
WORK = """
import os
import sys
import threading
from app.settings import Settings
from app.store.database import Database
from finetune.events import RunEnded
from worker.supervisor import Supervisor

url, home, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Done:
    def receive(self, timeout, bell):
        return RunEnded({"epochs": 0})

    def wait(self, seconds):
        pass

    def stop(self):
        pass


class Engine:
    def start(self, order):
        return Done()


def work():
    settings = Settings(home_dir=home, database_url=url, poll_seconds=0.05)
    db = Database(url)
    supervisor = Supervisor(settings, db, Engine())

    def stop():
        sys.stdin.read()
        supervisor.stop()

    threading.Thread(target=stop).start()
    supervisor.work()
    db.dispose()


sys.stdin.readline()
pids = []
for _ in range(count):
    pid = os.fork()
    if not pid:
        work()
        sys.stdout.flush()
        os._exit(0)
    pids.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in pids))
"""
SPEC = {
    "dataset": {"path": "none"},
    "backbone": {"name": "none", "weights": None},
    "checkpoints": {},
}


@pytest.fixture
def fill(db):
    """Stores so many jobs at once."""

    def store(count):
        row = {"status": Status.QUEUED, "status_reason": "waiting", "priority": 0, "attempt": 0}
        row |= {"lost_attempts": 0, "max_attempts": 1, "spec": SPEC, "resolved_spec": SPEC}
        with db.write() as connection:
            rows = [{**row, "id": new_id("job")} for _ in range(count)]
            connection.execute(insert(jobs).values(created_at=db_now()), rows)

    return store


@pytest.mark.promise("Many workers take each job once, and none meets a locked database")
@pytest.mark.timeout(1200)
def test_sixteen_workers_take_each_of_a_thousand_jobs_once(db, url, fill, tmp_path, until, long, tried):
    count = 10_000 if long else 1_000
    fill(count)
    tried(count)
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORK, url, str(tmp_path / "home"), str(WORKERS)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        done = lambda: stored.counts_by_status(db)[Status.SUCCEEDED] == count  # noqa: E731
        until(lambda: done() or process.poll() is not None, 60 + count / 20, "all jobs have succeeded")
        process.stdin.close()
        assert process.wait(60) == 0
        log.seek(0)
        said = log.read()
    assert done()
    assert "does not answer" not in said
    assert "locked" not in said
    assert "Traceback" not in said
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
