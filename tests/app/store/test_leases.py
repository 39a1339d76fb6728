import time

import pytest
from sqlalchemy import select

from app.store.attempts import claim, heartbeat
from app.store.controls import cancel_job, pause_job
from app.store.errors import LeaseLost
from app.store.events import list_events
from app.store.leases import Sweeper, _sweep_one, lose, sweep
from app.store.records import JobError
from app.store.states import Status
from app.store.tables import attempts, jobs


def test_lease_that_ran_out_queues_the_job_again(db, post, reread, take):
    job = post()
    take(lease_seconds=-1.0)
    assert sweep(db) == [job.id]
    after = reread(job)
    assert (after.status, after.lost_attempts, after.worker) == (Status.QUEUED, 1, None)
    assert "w1 was not heard of" in after.status_reason
    last = list_events(db, job.id)[-1]
    assert (last.type, last.level, last.data["code"]) == ("job.queued", "warning", "worker_lost")


def test_job_fails_with_worker_lost_when_no_attempts_are_left(db, post, reread, take):
    job = post(max_attempts=2)
    for _ in range(2):
        take(lease_seconds=-1.0)
        sweep(db)
    after = reread(job)
    assert (after.status, after.lost_attempts) == (Status.FAILED, 2)
    assert isinstance(after.error, JobError)
    assert after.error.code == "worker_lost"
    assert after.finished_at is not None


def test_lost_attempts_are_closed(db, post, take):
    post()
    take(lease_seconds=-1.0)
    sweep(db)
    with db.read() as connection:
        attempt = connection.execute(select(attempts)).one()
    assert attempt.outcome == "lost"
    assert attempt.ended_at is not None


def test_lost_job_that_was_being_cancelled_is_cancelled(db, post, reread, take):
    job = post(max_attempts=1)
    take(lease_seconds=-1.0)
    cancel_job(db, job.id)
    assert sweep(db) == [job.id]
    assert (reread(job).status, reread(job).error) == (Status.CANCELLED, None)


def test_lost_job_that_was_pausing_is_paused(db, post, reread, take):
    job = post()
    take(lease_seconds=-1.0)
    pause_job(db, job.id)
    sweep(db)
    assert reread(job).status is Status.PAUSED


def test_valid_lease_is_not_swept(db, post, reread, take):
    job = post()
    take(lease_seconds=60.0)
    before = reread(job)
    assert sweep(db) == []
    assert reread(job) == before


def test_renewed_lease_is_not_swept(db, post, take, reread):
    job = post()
    held = take(lease_seconds=-1.0)
    heartbeat(db, held, 60.0)
    assert sweep(db) == []
    assert reread(job).status is Status.RUNNING


def test_lease_renewed_while_the_sweep_looks_is_not_swept(db, post, take, reread, monkeypatch):
    job = post()
    held = take(lease_seconds=-1.0)
    write = db.write

    def renew_first():
        monkeypatch.setattr(db, "write", write)
        heartbeat(db, held, 60.0)
        return write()

    monkeypatch.setattr(db, "write", renew_first)
    assert sweep(db) == []
    assert (reread(job).status, reread(job).lost_attempts) == (Status.RUNNING, 0)


def test_row_that_was_renewed_after_it_was_read_is_not_taken_back(db, post, take, reread):
    job = post()
    held = take(lease_seconds=-1.0)
    with db.read() as connection:
        stale = connection.execute(select(jobs)).mappings().one()
    heartbeat(db, held, 60.0)
    with db.write() as connection:
        assert not _sweep_one(connection, stale)
    assert reread(job).status is Status.RUNNING


@pytest.mark.parametrize("leap", [3600.0, -3600.0])
def test_sweeper_whose_machine_was_asleep_lets_those_who_live_renew_first(db, post, take, reread, leap):
    asleep = 0.0
    sweeper = Sweeper(db, 40.0, lambda: time.time() + asleep)
    lives, lost = post(priority=1), post()
    held, _ = take(lease_seconds=-1.0), take(lease_seconds=-1.0)
    asleep = leap
    assert sweeper.sweep() == []
    heartbeat(db, held, 60.0)
    assert sweeper.sweep() == [lost.id]
    assert (reread(lives).status, reread(lives).lost_attempts) == (Status.RUNNING, 0)


def test_sweeping_twice_charges_once(db, post, take, reread):
    job = post()
    take(lease_seconds=-1.0)
    assert (sweep(db), sweep(db)) == ([job.id], [])
    assert reread(job).lost_attempts == 1


def test_attempt_that_broke_off_gives_its_job_to_the_next_and_is_charged(db, post, reread, take):
    job, held = post(), take()
    assert lose(db, held, "attempt 1 broke off: killed") is Status.QUEUED
    after = reread(job)
    assert (after.status, after.lost_attempts, after.worker, after.error) == (Status.QUEUED, 1, None, None)
    assert after.status_reason == "attempt 1 broke off: killed"
    last = list_events(db, job.id)[-1]
    assert (last.type, last.level, last.data["code"]) == ("job.queued", "warning", "worker_lost")
    with db.read() as connection:
        attempt = connection.execute(select(attempts)).one()
    assert (attempt.outcome, attempt.reason) == ("lost", "attempt 1 broke off: killed")
    assert take("w2").attempt == 2


def test_attempts_that_break_off_end_in_worker_lost(db, post, reread, take):
    job = post(max_attempts=2)
    assert [lose(db, take(), "killed") for _ in range(2)] == [Status.QUEUED, Status.FAILED]
    after = reread(job)
    assert isinstance(after.error, JobError)
    assert (after.error.code, after.error.message) == ("worker_lost", "killed; no attempts are left")
    assert list_events(db, job.id)[-1].level == "error"
    assert claim(db, "w2", 60) is None


def test_attempt_that_breaks_off_while_its_job_is_let_go_leaves_it_as_asked(db, post, reread, take):
    for request, wanted in ((cancel_job, Status.CANCELLED), (pause_job, Status.PAUSED)):
        job, held = post(), take()
        request(db, job.id)
        assert lose(db, held, "killed") is wanted
        assert (reread(job).status, reread(job).error) == (wanted, None)


def test_attempt_without_the_lease_loses_nothing(db, post, reread, take):
    job, old = post(), take(lease_seconds=-1.0)
    sweep(db)
    take("w2")
    before = reread(job)
    with pytest.raises(LeaseLost):
        lose(db, old, "late")
    assert reread(job) == before
