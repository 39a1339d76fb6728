import pytest

from app.store.attempts import claim, finish, heartbeat, release
from app.store.controls import cancel_job, check_retry, pause_job, resume_job
from app.store.errors import JobNotFound, NotRetryable, TransitionRefused
from app.store.events import list_events
from app.store.states import ENDED, Status


def _types(db, job):
    return [event.type for event in list_events(db, job.id)]


def test_queued_and_paused_jobs_are_cancelled_at_once(db, post):
    queued, paused = post(), post()
    pause_job(db, paused.id)
    for job in (queued, paused):
        cancelled = cancel_job(db, job.id)
        assert cancelled.status is Status.CANCELLED
        assert cancelled.finished_at is not None
        assert _types(db, job)[-1] == "job.cancelled"


def test_cancelling_a_running_job_asks_its_worker(db, post, take):
    job, held = post(), take()
    assert cancel_job(db, job.id).status is Status.CANCELLING
    assert heartbeat(db, held, 60) is Status.CANCELLING


def test_cancelling_twice_changes_nothing(db, post, take):
    job, _ = post(), take()
    first = cancel_job(db, job.id)
    assert cancel_job(db, job.id) == first
    assert _types(db, job).count("job.cancelling") == 1


def test_pausing_job_can_be_cancelled(db, post, take):
    job, held = post(), take()
    pause_job(db, job.id)
    assert cancel_job(db, job.id).status is Status.CANCELLING
    assert release(db, held, "stopped") is Status.CANCELLED


def test_paused_job_is_not_claimed_until_it_is_resumed(db, post, take):
    job = post()
    assert pause_job(db, job.id).status is Status.PAUSED
    assert claim(db, "w1", 60) is None
    assert resume_job(db, job.id).status is Status.QUEUED
    assert take().job_id == job.id


def test_pausing_a_running_job_asks_its_worker_who_gives_it_back(db, post, take, reread):
    job, held = post(), take()
    assert pause_job(db, job.id).status is Status.PAUSING
    assert pause_job(db, job.id).status is Status.PAUSING
    assert heartbeat(db, held, 60) is Status.PAUSING
    assert release(db, held, "saved") is Status.PAUSED
    assert reread(job).worker is None


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_ended_jobs_refuse_every_request(db, post, take, reread, end):
    job, held = post(), take()
    if end is Status.CANCELLED:
        cancel_job(db, job.id)
    finish(db, held, end, "over")
    before, events = reread(job), _types(db, job)
    for request in (cancel_job, pause_job, resume_job):
        with pytest.raises(TransitionRefused) as refused:
            request(db, job.id)
        assert (refused.value.job_id, refused.value.current) == (job.id, end)
    assert (reread(job), _types(db, job)) == (before, events)


def test_refusal_says_what_was_wanted(db, post):
    job = post()
    with pytest.raises(TransitionRefused, match=f"job {job.id} is queued and cannot become queued"):
        resume_job(db, job.id)


@pytest.mark.parametrize("request_", [cancel_job, pause_job, resume_job])
def test_requests_for_unknown_jobs_say_so(db, request_):
    with pytest.raises(JobNotFound):
        request_(db, "job_x")


def _brought_to(status, db, post, take):
    job = post()
    if status is Status.QUEUED:
        return job
    if status is Status.PAUSED:
        return pause_job(db, job.id)
    held = take()
    if status is Status.PAUSING:
        pause_job(db, job.id)
    if status in (Status.CANCELLING, Status.CANCELLED):
        cancel_job(db, job.id)
    if status in ENDED:
        finish(db, held, status, "over")
    return job


@pytest.mark.parametrize("status", list(Status))
def test_only_failed_and_cancelled_jobs_are_tried_again(db, post, take, reread, status):
    job = reread(_brought_to(status, db, post, take))
    assert job.status is status
    if status in (Status.FAILED, Status.CANCELLED):
        check_retry(job)
        return
    with pytest.raises(NotRetryable, match=f"job {job.id} is {status}") as refused:
        check_retry(job)
    assert (refused.value.job_id, refused.value.current) == (job.id, status)
