"""Every operation of one epoch that lasts (write, fsync, rename, commit) fails in each way that it can."""

import json
import re
from typing import Any

import pytest

from app.store.events import list_events
from tests.reliability.conftest import STAGES as LONG
from tests.reliability.conftest import end
from tests.reliability.test_kills import check

EPOCH = 3  # of the second stage; it lets go of a checkpoint
STAGES = [{**LONG[0], "epochs": 1}, {**LONG[1], "epochs": 3}]
CHECKPOINTS = {"every_steps": 4}
PROMISE = "Whatever write, fsync, rename or commit fails, a job goes on exactly, or says disk_full"


@pytest.fixture(scope="module")
def whole(place, until):
    """What comes of a job that nothing happens to, whose operations are counted."""
    place.operations.unlink(missing_ok=True)
    pid = place.work()
    job = place.post(STAGES, checkpoints=CHECKPOINTS)
    until(lambda: place.ended(job), 60, "the job has ended")
    end(pid)
    assert place.look(job).status == "succeeded"
    return place.outcome(job)


@pytest.fixture(scope="module")
def points(place, whole, database, long):
    """The numbered operations of an epoch, and of letting go of what it has taken the place of.

    With PostgreSQL every fourth of them, or in the long profile every second: what is written is the same.
    """
    found = [json.loads(line) for line in place.operations.read_text().splitlines()]
    points = _of_attempt([one for one in found if one["side"] == "attempt"])
    points += _of_worker([one for one in found if one["side"] == "worker"])
    kinds = {(one["side"], one["what"]) for one in points}
    assert kinds == {
        *(("attempt", what) for what in ("write", "fsync", "rename")),
        *(("worker", what) for what in ("commit", "remove")),
    }
    assert any("DELETE checkpoints" in one["about"] for one in points)
    return points if database == "sqlite" else points[:: 2 if long else 4]


def _of_attempt(found):
    at = [n for n, one in enumerate(found) if f"epoch-{EPOCH:05d}" in one["about"]]
    return found[at[0] : at[-1] + 2]  # and the folder's fsync


def _of_worker(found):
    epochs, inside = 0, list[dict[str, Any]]()
    for one in found:
        begins = "INSERT states" in one["about"]
        if begins and epochs == EPOCH:
            break
        if epochs == EPOCH or (epochs == EPOCH - 1 and (begins or inside)):
            inside.append(one)
        epochs += "INSERT epochs" in one["about"]
    return inside


@pytest.fixture
def run(place, proc, until):
    """Runs a job whose worker fails as planned, with another worker once it is gone; gives the job."""

    def run_job(point, kind):
        pid = place.work({"side": point["side"], "at": point["at"], "kind": kind})
        job = place.post(STAGES, checkpoints=CHECKPOINTS)
        until(lambda: place.ended(job) or not proc.alive(pid), 60, f"{kind} at {point} is over")
        if not proc.alive(pid):
            place.outcome(job)  # no row is without its files at any time
            pid = place.work()
        until(lambda: place.ended(job), 60, f"the job has ended after {kind} at {point}")
        end(pid)
        until(lambda: not proc.alive(pid), 15, "the worker has ended")
        return job

    return run_job


@pytest.mark.promise(PROMISE)
@pytest.mark.timeout(3600)
def test_gone_at_any_operation_a_job_goes_on_exactly(place, run, points, whole, tried):
    for point in points:
        job = run(point, "exit")
        assert place.look(job).attempt == 2, f"nothing was interrupted at {point}"
        check(place, job, whole)
        tried(1)


@pytest.mark.promise(PROMISE)
@pytest.mark.timeout(3600)
def test_without_room_for_once_a_job_goes_on_exactly(place, run, points, whole, tried):
    for point in points:
        if point["what"] != "remove":
            job = run(point, "once")
            assert place.look(job).attempt == 1
            check(place, job, whole)
            tried(1)


@pytest.mark.promise(PROMISE)
@pytest.mark.timeout(3600)
def test_without_room_for_good_a_job_fails_by_name_and_the_database_says_so(place, run, points, whole, tried):
    for point in points:
        if point["what"] == "remove":
            continue
        job = run(point, "for good")
        failed = place.look(job)
        assert (failed.status, failed.error.code) == ("failed", "disk_full"), point
        needed = re.search(r"it needs ([\d,]+) bytes and [\d,]+ were free", failed.error.message)
        assert needed is not None, failed.error.message
        assert int(needed[1].replace(",", "")) > 1000
        assert list_events(place.db, job, limit=1000)[-1].type == "job.failed"
        left = place.outcome(job)
        assert left.numbers == whole.numbers[: len(left.numbers)], point
        assert left.figures == whole.figures[: len(left.figures)]
        assert len(left.numbers) in (EPOCH - 1, EPOCH)
        assert not list((place.artifacts / job).rglob(".*"))
        tried(1)


@pytest.mark.promise(PROMISE)
def test_with_room_again_the_next_worker_takes_the_next_job(place, run, points, whole, worker, until):
    write = next(point for point in points if point["what"] == "write")
    full = run(write, "for good")
    assert place.look(full).error.code == "disk_full"
    again = place.post(STAGES, checkpoints=CHECKPOINTS)
    worker()
    until(lambda: place.ended(again), 60, "the job has ended")
    check(place, again, whole)
    assert (place.home / "reserve").exists()
