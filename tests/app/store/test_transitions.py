import pytest

from app.store.errors import JobNotFound
from app.store.events import list_events
from app.store.states import ACTIVE, TRANSITIONS, Status
from app.store.tables import jobs
from app.store.transitions import lock, move


def _force(db, job, status):
    held = {"worker": "w", "lease_until": 0.0} if status in ACTIVE else {"worker": None, "lease_until": None}
    with db.write() as connection:
        connection.execute(jobs.update().where(jobs.c.id == job.id).values(status=status, **held))


def _move(db, job, wanted):
    values = {"worker": "w", "lease_until": 0.0} if wanted in ACTIVE else {}
    with db.write() as connection:
        return move(connection, wanted, jobs.c.id == job.id, reason="because", values=values)


@pytest.mark.parametrize("current", Status)
def test_a_job_moves_only_along_the_table(db, post, reread, current):
    for wanted in Status:
        job = post()
        _force(db, job, current)
        moved = _move(db, job, wanted)
        assert (moved is not None) == (wanted in TRANSITIONS[current])
        assert reread(job).status == (wanted if moved else current)


def test_each_move_leaves_its_reason_and_one_event(db, post, reread):
    job = post()
    _move(db, job, Status.PAUSED)
    assert reread(job).status_reason == "because"
    created, paused = list_events(db, job.id)
    assert (created.type, paused.type, paused.message) == ("job.created", "job.paused", "because")


def test_refused_move_leaves_no_event(db, post):
    job = post()
    assert _move(db, job, Status.SUCCEEDED) is None
    assert [event.type for event in list_events(db, job.id)] == ["job.created"]


def test_ended_job_has_its_end_noted_and_no_worker(db, post, reread):
    job = post()
    _force(db, job, Status.RUNNING)
    _move(db, job, Status.FAILED)
    ended = reread(job)
    assert ended.finished_at >= ended.created_at
    assert (ended.worker, ended.lease_until) == (None, None)


def test_locking_an_unknown_job_says_so(db):
    with pytest.raises(JobNotFound, match="there is no job job_x"), db.write() as connection:
        lock(connection, "job_x")
