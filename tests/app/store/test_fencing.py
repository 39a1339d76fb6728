"""A process that is stopped past its lease, and woken after another one has taken its job: real SIGSTOP."""

import json
import os
import signal
import subprocess
import sys

import pytest

from app.store.attempts import claim, finish
from app.store.controls import cancel_job
from app.store.leases import sweep
from app.store.resuming import list_points
from app.store.states import Status
from app.store.tables import metadata

# Takes the job, writes an epoch of it, stops itself, and when it is woken tries all that a worker may write.
LATE = """
import json
import os
import signal
import sys
from app.store import attempts, job_reports, leases, reports, resuming
from app.store.database import Database
from app.store.errors import LeaseLost
from app.store.records import JobError, NewCheckpoint, NewReport, NewState
from app.store.states import Status

db = Database(sys.argv[1])
lease = 0.2
held = attempts.claim(db, "the old one", lease)


def epoch(number):
    record = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
    new = NewCheckpoint(f"w{number}", 1, "ab", f"s{number}", 1, "cd")
    best = {"checkpoint": new.id, "metric": "val_accuracy", "value": 0.5}
    return reports.record_epoch(db, held, lease, record, new, best)


def state(step):
    new = NewState("all", 0, 2, 2, step, f"step-{step}", 1, "ab")
    return resuming.record_state(db, held, lease, new)


first = epoch(1)
state(3)
report = NewReport(first.path, "r", 1, "ab", "p", 1, "cd")
writes = {
    "heartbeat": lambda: attempts.heartbeat(db, held, lease, {"step": 1}),
    "the same epoch": lambda: epoch(1),
    "the next epoch": lambda: epoch(2),
    "a state within the epoch": lambda: state(4),
    "falling back": lambda: resuming.fall_back(db, held, lease, [first.id], None, "late", {}),
    "letting go of a checkpoint": lambda: reports.drop_checkpoints(db, held, lease, [first.id]),
    "event": lambda: reports.record_event(db, held, lease, "warning", "late"),
    "data": lambda: reports.record_prepared(db, held, lease, "ef" * 32, "late", {}),
    "report": lambda: job_reports.record_report(db, held, lease, report, "late", {}),
    "success": lambda: attempts.finish(db, held, Status.SUCCEEDED, "late", result={"late": True}),
    "failure": lambda: attempts.finish(db, held, Status.FAILED, "late", error=JobError("internal", "late")),
    "cancellation": lambda: attempts.finish(db, held, Status.CANCELLED, "late"),
    "giving back": lambda: attempts.release(db, held, "late"),
    "giving back with another spec": lambda: attempts.release(db, held, "late", {"late": True}),
    "breaking off": lambda: leases.lose(db, held, "late"),
}
os.kill(os.getpid(), signal.SIGSTOP)
lease = 60
said = {}
for name, write in writes.items():
    try:
        said[name] = repr(write())
    except LeaseLost:
        said[name] = "lost"
print(json.dumps(said))
db.dispose()
"""


@pytest.fixture
def late(url, post):
    """A job, and the process that has taken it and stopped itself in the middle."""
    job = post(max_attempts=5)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LATE, url], stdout=subprocess.PIPE, text=True
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    yield job, process
    process.kill()
    process.communicate()


def _rows(db):
    with db.read() as connection:
        return {name: connection.execute(table.select()).all() for name, table in metadata.tables.items()}


@pytest.mark.promise("What a worker writes after its lease was lost changes no row")
@pytest.mark.parametrize("next_one", ["trains", "was asked to cancel", "has failed", "is not there yet"])
def test_worker_that_was_stopped_past_its_lease_changes_no_row_when_it_is_woken(
    db, late, until, next_one, tried
):
    job, process = late
    until(lambda: sweep(db), 10, "the lease has run out")
    if next_one != "is not there yet":
        held = claim(db, "the new one", 60)
        assert held is not None
        assert (held.job_id, held.attempt) == (job.id, 2)
        assert list_points(db, held)
        if next_one == "was asked to cancel":
            cancel_job(db, job.id)
        if next_one == "has failed":
            finish(db, held, Status.FAILED, "no luck")
    before = _rows(db)
    process.send_signal(signal.SIGCONT)
    said = json.loads(process.communicate(timeout=60)[0])
    tried(len(said))
    assert len(said) == 15
    assert {name for name, end in said.items() if end != "lost"} == set()
    assert _rows(db) == before
