"""Run by `test_full_disk.py` with all its folders on a file system of 80 MB; not collected by itself."""

import re
import shutil

from app.store.checkpoints import list_checkpoints
from app.store.events import list_events


def test_a_job_that_fills_the_disk_fails_by_name_and_the_next_one_runs_with_room_again(place, worker, until):
    """Each epoch takes 4 MB; 16 MB are kept for the database until it needs them."""
    stages = [{"name": "all", "epochs": 40, "lr": {"schedule": {"name": "constant", "lr": 0.05}}, "ema": {}}]
    hefty = {"backbone": {"name": "hefty", "weights": None}, "checkpoints": {"keep_last": 1000}}
    worker()
    job = place.post(stages, **hefty)
    until(lambda: place.ended(job), 90, "the job has ended")
    failed = place.look(job)
    assert (failed.status, failed.error.code) == ("failed", "disk_full")
    told = re.search(r"it needs ([\d,]+) bytes and ([\d,]+) were free", failed.error.message)
    assert told is not None, failed.error.message
    needed, free = (int(number.replace(",", "")) for number in told.groups())
    assert free < needed < 10_000_000
    assert needed > 1_000_000
    assert list_events(place.db, job, limit=1000)[-1].type == "job.failed"
    kept = len(list_checkpoints(place.db, job))
    assert place.outcome(job).numbers == list(range(1, kept + 1))

    shutil.rmtree(place.artifacts / job)
    following = place.post()
    until(lambda: place.ended(following), 60, "the next job has ended")
    assert place.look(following).status == "succeeded"
