"""What becomes of a job, and of its lease, while its attempt is asked to save and to end."""

import time

import pytest

from app.store import leases
from app.store.controls import cancel_job, pause_job
from app.store.epochs import list_epochs
from app.store.states import Status
from finetune.events import RunEnded
from worker.engine import AttemptGone
from worker.orders import Failed


@pytest.fixture
def becomes(look, until):
    """Waits until a job has a status; gives the job."""

    def wait(job, status, seconds=10):
        until(lambda: look(job).status is status, seconds, f"the job is {status}")
        return look(job)

    return wait


def test_paused_attempt_saves_and_ends_and_the_job_keeps_what_it_said_last(db, training, becomes, look):
    job, _, attempt = training(obeys=False)
    pause_job(db, job)
    assert becomes(job, Status.PAUSING).status is Status.PAUSING
    attempt.epoch(1)
    attempt.say(AttemptGone("its process ended with exit code 0"))
    paused = becomes(job, Status.PAUSED)
    assert (attempt.asked, attempt.acknowledged, paused.lost_attempts) == (1, 1, 0)
    assert [epoch.global_epoch for epoch in list_epochs(db, job)] == [1]


def test_attempt_that_takes_its_time_to_save_keeps_its_lease(db, training, becomes, look):
    job, _, attempt = training(obeys=False, lease_seconds=1.0, grace_seconds=30, spec={"max_attempts": 1})
    pause_job(db, job)
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert leases.sweep(db) == []
        time.sleep(0.05)
    assert look(job).status is Status.PAUSING
    attempt.say(AttemptGone("its process ended with exit code 0"))
    paused = becomes(job, Status.PAUSED)
    assert (paused.lost_attempts, paused.error) == (0, None)


def test_attempt_that_does_not_save_in_the_grace_time_is_ended(db, training, becomes):
    job, _, attempt = training(obeys=False, grace_seconds=0.5)
    pause_job(db, job)
    assert becomes(job, Status.PAUSED).lost_attempts == 0
    assert attempt.stopped


def test_cancel_wins_over_a_pause_that_is_under_way(db, training, becomes, until):
    job, _, attempt = training(obeys=False, grace_seconds=600)
    pause_job(db, job)
    until(lambda: attempt.asked, 10, "the attempt is asked to save")
    cancel_job(db, job)
    ended = becomes(job, Status.CANCELLED)
    assert attempt.stopped
    assert (ended.lost_attempts, ended.error, ended.worker) == (0, None, None)


def test_success_wins_over_a_pause_that_is_under_way(db, training, becomes, until):
    job, _, attempt = training(obeys=False, grace_seconds=600)
    pause_job(db, job)
    until(lambda: attempt.asked, 10, "the attempt is asked to save")
    attempt.say(RunEnded({"epochs": 5}))
    assert becomes(job, Status.SUCCEEDED).result == {"epochs": 5}


def test_failure_by_name_wins_over_a_pause_that_is_under_way(db, training, becomes, until):
    job, _, attempt = training(obeys=False, grace_seconds=600)
    pause_job(db, job)
    until(lambda: attempt.asked, 10, "the attempt is asked to save")
    attempt.say(Failed("nonfinite_loss", "the loss became NaN"))
    assert becomes(job, Status.FAILED).error.code == "nonfinite_loss"


def test_worker_that_is_stopped_waits_for_its_attempt_to_save(db, training, look, until):
    job, worker, attempt = training(obeys=False, grace_seconds=600, spec={"max_attempts": 1})
    worker.supervisor.stop()
    until(lambda: attempt.asked, 10, "the attempt is asked to save")
    attempt.epoch(1)
    attempt.say(AttemptGone("its process ended with exit code 0"))
    worker.thread.join(10)
    assert not worker.thread.is_alive()
    after = look(job)
    assert (after.status, after.lost_attempts, after.worker) == (Status.QUEUED, 0, None)
    assert [epoch.global_epoch for epoch in list_epochs(db, job)] == [1]


def test_worker_that_is_stopped_twice_waits_for_nothing(training, look, until):
    job, worker, attempt = training(obeys=False, grace_seconds=600, spec={"max_attempts": 1})
    worker.supervisor.stop()
    until(lambda: attempt.asked, 10, "the attempt is asked to save")
    worker.supervisor.stop()
    worker.thread.join(10)
    assert not worker.thread.is_alive()
    assert attempt.stopped
    assert (look(job).status, look(job).lost_attempts) == (Status.QUEUED, 0)


@pytest.mark.parametrize(
    "end", [AttemptGone("its process was ended by SIGTERM"), Failed("internal", "a data worker is gone")]
)
def test_attempt_that_ends_with_its_worker_says_nothing_of_the_job(training, look, until, end):
    job, worker, attempt = training(obeys=False, grace_seconds=600, spec={"max_attempts": 1})
    worker.supervisor.stop()
    attempt.say(end)
    worker.thread.join(10)
    assert not worker.thread.is_alive()
    assert (look(job).status, look(job).lost_attempts, look(job).error) == (Status.QUEUED, 0, None)


def test_worker_listens_no_longer_than_until_its_next_heartbeat(training):
    _, _, attempt = training(lease_seconds=60)
    before = len(attempt.timeouts)
    for step in range(2, 12):
        attempt.progress(step)
        time.sleep(0.05)
    assert all(0 <= timeout <= 1.0 for timeout in attempt.timeouts)
    assert min(attempt.timeouts[before:]) < 0.9
