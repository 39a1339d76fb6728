from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import event, select
from sqlalchemy.dialects import postgresql

from app.store import attempts as under_test
from app.store.attempts import claim, finish, heartbeat, release
from app.store.controls import cancel_job, pause_job
from app.store.errors import LeaseLost, TransitionRefused
from app.store.events import list_events
from app.store.jobs import counts_by_status
from app.store.leases import sweep
from app.store.records import JobError
from app.store.states import Status
from app.store.tables import attempts
from tests.databases import only_sqlite


def _attempts(db):
    with db.read() as connection:
        return connection.execute(select(attempts).order_by(attempts.c.number)).all()


def test_highest_priority_is_claimed_first_then_the_oldest(post, take):
    low, old, new, high = post(priority=-1), post(), post(), post(priority=5)
    assert [take().job_id for _ in range(4)] == [high.id, old.id, new.id, low.id]


def test_nothing_queued_gives_nothing(db):
    assert claim(db, "w1", 60) is None


@only_sqlite
def test_idle_claim_takes_no_write_lock(db):
    begun = []
    event.listen(db.engine, "before_cursor_execute", lambda c, cursor, sql, *rest: begun.append(sql))
    claim(db, "w1", 60)
    assert "BEGIN DEFERRED" in begun
    assert "BEGIN IMMEDIATE" not in begun


def test_claimed_job_is_running_with_a_lease_and_an_attempt(db, post, reread, take):
    job = post(resolved_spec={"seed": 7})
    held = take("w1", 60.0)
    running = reread(job)
    assert (held.job_id, held.seq, held.attempt, held.worker) == (job.id, job.seq, 1, "w1")
    assert held.resolved_spec == {"seed": 7}
    assert (running.status, running.attempt, running.worker) == (Status.RUNNING, 1, "w1")
    assert running.lease_until == pytest.approx(running.started_at + 60)
    (attempt,) = _attempts(db)
    assert (attempt.number, attempt.worker, attempt.ended_at) == (1, "w1", None)
    assert list_events(db, job.id)[-1].type == "job.running"


def test_claim_skips_rows_locked_by_others_on_postgresql():
    sql = str(select(under_test._next()).compile(dialect=postgresql.dialect()))
    assert "FOR UPDATE SKIP LOCKED" in sql


def test_eight_threads_claim_each_of_a_hundred_jobs_once(db, post):
    made = {post().id for _ in range(100)}
    barrier = Barrier(8)

    def claim_all(worker):
        barrier.wait()
        taken = []
        while claimed := claim(db, worker, 60):
            taken.append(claimed.job_id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job for jobs in pool.map(claim_all, map(str, range(8))) for job in jobs]
    assert len(taken) == 100
    assert set(taken) == made


def test_heartbeat_extends_the_lease_and_stores_progress(db, post, reread, take):
    job, held = post(), take(lease_seconds=1.0)
    assert heartbeat(db, held, 600.0, {"step": 3}) is Status.RUNNING
    after = reread(job)
    assert after.lease_until > after.started_at + 500
    assert after.progress == {"step": 3}
    heartbeat(db, held, 600.0)
    assert reread(job).progress == {"step": 3}


def test_success_stores_result_and_closes_the_attempt(db, post, reread, take):
    job, held = post(), take()
    best = {"checkpoint": "ckpt_1", "metric": "val_loss", "value": 0.5}
    assert finish(db, held, Status.SUCCEEDED, "done", result={"acc": 0.9}, best=best) is Status.SUCCEEDED
    ended = reread(job)
    assert (ended.status, ended.status_reason) == (Status.SUCCEEDED, "done")
    assert (ended.result, ended.best, ended.error) == ({"acc": 0.9}, best, None)
    assert (ended.worker, ended.lease_until) == (None, None)
    (attempt,) = _attempts(db)
    assert (attempt.outcome, attempt.reason) == ("succeeded", "done")
    assert attempt.ended_at >= attempt.started_at


def test_failure_stores_its_error(db, post, reread, take):
    job, held = post(), take()
    error = JobError("dataset_invalid", "no images", "dataset.path")
    assert finish(db, held, Status.FAILED, "no images", error=error) is Status.FAILED
    assert reread(job).error == error
    last = list_events(db, job.id)[-1]
    assert (last.type, last.level) == ("job.failed", "error")


def test_cancel_wins_over_success(db, post, reread, take):
    job, held = post(), take()
    cancel_job(db, job.id)
    assert finish(db, held, Status.SUCCEEDED, "done", result={"acc": 0.9}) is Status.CANCELLED
    ended = reread(job)
    assert (ended.status, ended.result) == (Status.CANCELLED, None)
    assert list_events(db, job.id)[-1].type == "job.cancelled"


def test_cancel_wins_over_failure(db, post, reread, take):
    job, held = post(), take()
    cancel_job(db, job.id)
    assert finish(db, held, Status.FAILED, "x", error=JobError("internal", "x")) is Status.CANCELLED
    assert reread(job).error is None


def test_success_wins_over_pause(db, post, take):
    job, held = post(), take()
    pause_job(db, job.id)
    assert finish(db, held, Status.SUCCEEDED, "done") is Status.SUCCEEDED


def test_worker_cannot_cancel_on_its_own(db, post, reread, take):
    job, held = post(), take()
    with pytest.raises(TransitionRefused):
        finish(db, held, Status.CANCELLED, "bored")
    assert reread(job).status is Status.RUNNING


def test_released_job_is_queued_again_and_nothing_is_charged(db, post, reread, take):
    job, held = post(), take()
    assert release(db, held, "shutting down") is Status.QUEUED
    after = reread(job)
    assert (after.status, after.status_reason) == (Status.QUEUED, "shutting down")
    assert (after.lost_attempts, after.attempt, after.worker) == (0, 1, None)
    assert _attempts(db)[0].outcome == "released"


def test_job_can_be_released_more_often_than_it_may_be_lost(db, post, take):
    post(max_attempts=1)
    for _ in range(5):
        release(db, take(), "shutting down")
    assert counts_by_status(db)[Status.QUEUED] == 1


def test_start_is_that_of_the_first_attempt(db, post, reread, take):
    job = post()
    release(db, take(), "shutting down")
    started = reread(job).started_at
    take()
    assert reread(job).started_at == started


@pytest.mark.parametrize(
    "late_write",
    [
        lambda db, held: heartbeat(db, held, 60, {"step": 1}),
        lambda db, held: finish(db, held, Status.SUCCEEDED, "done", result={"a": 1}),
        lambda db, held: release(db, held, "shutting down"),
    ],
    ids=["heartbeat", "finish", "release"],
)
def test_old_attempt_changes_no_row(db, post, reread, take, late_write):
    job = post()
    old = take("w1", lease_seconds=-1.0)
    sweep(db)
    take("w1")  # even the same worker, in its next attempt
    before = (reread(job), _attempts(db), list_events(db, job.id))
    with pytest.raises(LeaseLost, match="attempt 1 no longer holds"):
        late_write(db, old)
    assert (reread(job), _attempts(db), list_events(db, job.id)) == before


def test_finished_attempt_cannot_finish_again(db, post, take):
    post()
    held = take()
    finish(db, held, Status.SUCCEEDED, "done")
    with pytest.raises(LeaseLost):
        finish(db, held, Status.FAILED, "late")
