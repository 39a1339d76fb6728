from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Barrier

import pytest

from app.store.attempts import finish
from app.store.controls import cancel_job
from app.store.errors import IdempotencyConflict, JobNotFound, NotEnded, UnknownCursor
from app.store.events import list_events
from app.store.jobs import counts_by_status, create_job, delete_job, get_job, list_jobs
from app.store.records import Job, NewCheckpoint
from app.store.reports import record_epoch
from app.store.states import Status
from app.store.tables import jobs, metadata

EPOCH = {"stage": "head", "stage_index": 0, "epoch": 1, "global_epoch": 1}


def test_job_record_has_every_column():
    columns = {column.name for column in jobs.columns if not column.name.startswith("error_")}
    assert {field.name for field in fields(Job)} == columns | {"metadata", "error"}


def test_new_job_is_queued_with_what_was_sent(db, post):
    older = post()
    job = post(
        spec={"recipe": {"name": "joint"}},
        resolved_spec={"stages": []},
        name="ants and bees",
        metadata={"team": "zoo", "run": "3"},
        priority=2,
        max_attempts=5,
        parent=older,
    )
    assert get_job(db, job.id) == job
    assert job.status is Status.QUEUED
    assert (job.name, job.metadata) == ("ants and bees", {"team": "zoo", "run": "3"})
    assert (job.spec, job.resolved_spec) == ({"recipe": {"name": "joint"}}, {"stages": []})
    assert (job.priority, job.max_attempts, job.parent) == (2, 5, older.id)
    assert (job.attempt, job.lost_attempts, job.worker, job.error) == (0, 0, None, None)


def test_new_job_has_one_event(db, post):
    (event,) = list_events(db, post().id)
    assert event.type == "job.created"


def test_unknown_job_is_none(db):
    assert get_job(db, "job_x") is None


def test_same_key_and_request_give_the_same_job(db):
    first, created = create_job(db, spec={}, resolved_spec={}, idempotency_key="k", request_hash="h")
    again, created_again = create_job(db, spec={}, resolved_spec={}, idempotency_key="k", request_hash="h")
    assert (created, created_again) == (True, False)
    assert again == first
    assert sum(counts_by_status(db).values()) == 1


def test_same_key_with_another_request_is_a_conflict(db, post):
    post(idempotency_key="k", request_hash="h")
    with pytest.raises(IdempotencyConflict, match="'k' was used before"):
        post(idempotency_key="k", request_hash="other")


def test_racing_requests_with_one_key_make_one_job(db):
    barrier = Barrier(8)

    def post(_):
        barrier.wait()
        return create_job(
            db, spec={}, resolved_spec={}, metadata={"a": "b"}, idempotency_key="k", request_hash="h"
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert len({job.id for job, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


def test_pages_hold_each_job_once_newest_first(db, post):
    made = [post().id for _ in range(7)]
    seen, after, more = [], None, True
    while more:
        page, more = list_jobs(db, after=after, limit=3)
        seen += [job.id for job in page]
        after = seen[-1]
    assert seen == made[::-1]


def test_full_last_page_has_nothing_more(db, post):
    for _ in range(3):
        post()
    assert list_jobs(db, limit=3)[1] is False


def test_jobs_posted_between_two_pages_shift_nothing(db, post):
    made = [post().id for _ in range(4)]
    first, _ = list_jobs(db, limit=2)
    post()
    second, _ = list_jobs(db, after=first[-1].id, limit=2)
    assert [job.id for job in first + second] == made[::-1]


def test_unknown_cursor_is_refused(db):
    with pytest.raises(UnknownCursor, match="job_x"):
        list_jobs(db, after="job_x")


def test_list_can_be_filtered_by_status_and_metadata_together(db, post):
    wanted = post(metadata={"team": "zoo", "kind": "a"})
    post(metadata={"team": "zoo", "kind": "b"})
    post(metadata={"team": "lab", "kind": "a"})
    cancelled = post(metadata={"team": "zoo", "kind": "a"})
    cancel_job(db, cancelled.id)
    found, more = list_jobs(db, status=Status.QUEUED, metadata={"team": "zoo", "kind": "a"})
    assert ([job.id for job in found], more) == ([wanted.id], False)
    assert found[0].metadata == {"team": "zoo", "kind": "a"}


def test_deleting_an_ended_job_leaves_no_row_of_it(db, post, take):
    job = post(metadata={"a": "b"})
    claim = take()
    record_epoch(db, claim, 60, EPOCH, NewCheckpoint("w", 1, "x"))
    finish(db, claim, Status.SUCCEEDED, "done")
    delete_job(db, job.id)
    with db.read() as connection:
        assert all(connection.execute(table.select()).all() == [] for table in metadata.tables.values())


def test_numbers_of_deleted_jobs_are_not_given_again(db, post):
    job = post()
    cancel_job(db, job.id)
    delete_job(db, job.id)
    assert post().seq > job.seq


def test_only_ended_jobs_can_be_deleted(db, post, take):
    queued, running = post(priority=0), post(priority=1)
    take()
    for job in (queued, running):
        with pytest.raises(NotEnded, match="only ended jobs"):
            delete_job(db, job.id)
        assert get_job(db, job.id) is not None


def test_deleting_an_unknown_job_says_so(db):
    with pytest.raises(JobNotFound):
        delete_job(db, "job_x")


def test_counts_name_every_status(db, post, take):
    post(), post(), post()
    take()
    assert counts_by_status(db) == dict.fromkeys(Status, 0) | {Status.QUEUED: 2, Status.RUNNING: 1}
