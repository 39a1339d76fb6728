"""Kill -9 at any moment, and what comes of the job."""

import random
import signal
import time

import pytest

from app.store.epochs import list_epochs
from app.store.events import list_events
from tests.reliability.conftest import end

EXACT = "Killed any number of times, a job ends with the very bytes of one that nothing happened to"


def check(place, job, whole):
    assert place.look(job).status == "succeeded", place.look(job).error
    found = place.outcome(job)
    assert found.numbers == whole.numbers
    assert found.figures == whole.figures
    assert found.digest == whole.digest


KINDS = ("attempt", "worker", "both")


@pytest.mark.promise(EXACT)
@pytest.mark.timeout(2 * 3600)
def test_killed_at_random_moments_a_job_ends_with_the_same_bytes(
    place, worker, uninterrupted, proc, until, long, tried
):
    dice, kills = random.Random(6), 0
    wanted = (200 if long else 20) // 2  # with either database
    pid, most = worker(), 0
    while kills < wanted:
        job = place.post()
        while kills < wanted and not place.ended(job):
            until(lambda pid=pid, job=job: proc.descendants(pid) or place.ended(job), 20, "it is tried")
            time.sleep(dice.uniform(0.0, 0.8))
            attempts, kind = proc.descendants(pid), KINDS[kills % 3]
            if place.ended(job) or not attempts:
                continue
            for victim in {"attempt": attempts, "worker": [pid], "both": [pid, *attempts]}[kind]:
                end(victim, signal.SIGKILL)
            kills += 1
            if kind != "attempt":
                pid = worker()
        until(lambda job=job: place.ended(job), 60, "the job has ended")
        check(place, job, uninterrupted)
        most = max(most, len({epoch.attempt for epoch in list_epochs(place.db, job)}))
    tried(kills)
    assert most > 1, "no kill came between two epochs"


@pytest.mark.promise(EXACT)
def test_a_job_goes_on_within_an_epoch_and_not_only_from_its_end(place, worker, uninterrupted, proc, until):
    pid = worker()
    slow = {"backbone": {"name": "tiny_slow", "weights": None}, "batch_size": 1}
    job = place.post(SLOW, **slow, checkpoints={"every_steps": 1})

    def within():
        found = place.look(job)
        progress = found.progress
        assert not place.ended(job), (found.status_reason, progress)
        return progress["step"] if progress is not None and 4 <= progress["step"] <= 18 else None

    seen = until(within, 30, "some steps of the only epoch are done")
    for victim in proc.descendants(pid):
        end(victim, signal.SIGKILL)
    until(lambda: place.ended(job), 60, "the job has ended")
    assert place.look(job).status == "succeeded"
    started = [event for event in list_events(place.db, job) if event.type == "stage.started"]
    assert started[0].data["step"] == 0
    assert started[-1].data["step"] >= seen - 1
    assert f"after step {started[-1].data['step']}" in started[-1].message


SLOW = [{"name": "all", "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}]
