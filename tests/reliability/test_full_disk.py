"""A disk that is really full: a file system of 40 MB in memory, in a mount namespace of the test's own."""

import re
import shutil
import subprocess

import pytest

from app.store.checkpoints import list_checkpoints
from app.store.events import list_events

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
MOUNT = 'mount -t tmpfs -o size=40m none "$THAW_HOME_DIR" && "$1" -m app migrate && exec "$@"'
KEEP_ALL = {"keep_last": 1000}


@pytest.fixture
def small(make_place, until):
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a file system of their own")
    place = make_place(seen_at="/proc/{pid}/root", within=[*UNSHARE, "sh", "-c", MOUNT, "sh"])
    place.work()  # answered once the home is there
    return place


@pytest.mark.promise("A full disk is named with the room that is needed, and the database can still say so")
def test_a_job_that_fills_the_disk_fails_by_name_and_the_next_one_runs_when_there_is_room(small, until):
    """Each epoch takes 6 MB; 16 MB are kept for the database until it needs them."""
    stages = [{"name": "all", "epochs": 30, "lr": {"schedule": {"name": "constant", "lr": 0.05}}, "ema": {}}]
    job = small.post(stages, backbone={"name": "hefty", "weights": None}, checkpoints=KEEP_ALL)
    until(lambda: small.ended(job), 60, "the job has ended")
    failed = small.look(job)
    assert (failed.status, failed.error.code) == ("failed", "disk_full")
    told = re.search(r"it needs ([\d,]+) bytes and ([\d,]+) were free", failed.error.message)
    assert told is not None, failed.error.message
    needed, free = (int(number.replace(",", "")) for number in told.groups())
    assert 2_000_000 < needed < 10_000_000
    assert free < needed
    assert list_events(small.db, job, limit=1000)[-1].type == "job.failed"
    kept = len(list_checkpoints(small.db, job))
    assert small.outcome(job).numbers == list(range(1, kept + 1))

    shutil.rmtree(small.artifacts / job)
    following = small.post()
    until(lambda: small.ended(following), 60, "the next job has ended")
    assert small.look(following).status == "succeeded"
