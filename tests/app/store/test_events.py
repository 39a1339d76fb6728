import pytest

from app.store import controls
from app.store.events import add_event, list_events, look_for_events
from app.store.jobs import delete_job


@pytest.fixture
def note(db):
    """Writes events of a job."""

    def write(job, *messages):
        with db.write() as connection:
            for message in messages:
                add_event(connection, job.seq, "job.note", message)

    return write


def test_one_look_sees_many_jobs_each_after_its_own_event(db, post, note):
    first, second = post(), post()
    note(first, "a", "b")
    note(second, "c", "d")
    seen = list_events(db, first.id)[1]
    found = look_for_events(db, {first.id: seen.id, second.id: None})
    assert [event.message for event in found[first.id].events] == ["b"]
    assert found[first.id].newest == found[first.id].events[-1].id
    assert found[second.id].events == []  # none were wanted
    assert found[second.id].newest == list_events(db, second.id)[-1].id
    assert not found[first.id].ended


def test_a_look_gives_no_more_than_it_may_and_says_that_there_are_more(db, post, note):
    job = post()
    start = list_events(db, job.id)[-1].id
    note(job, *map(str, range(10)))
    found = look_for_events(db, {job.id: start}, limit=4)[job.id]
    assert [event.message for event in found.events] == ["0", "1", "2", "3"]
    assert found.newest > found.events[-1].id


def test_a_job_has_ended_when_it_has_and_when_it_is_gone(db, post):
    ended, gone = post(), post()
    for job in (ended, gone):
        controls.cancel_job(db, job.id)
    delete_job(db, gone.id)
    found = look_for_events(db, {ended.id: None, gone.id: 3, "job_none": None})
    assert all(news.ended for news in found.values())
    assert found[gone.id].newest == found["job_none"].newest == 0


def test_a_look_at_nothing_finds_nothing(db):
    assert look_for_events(db, {}) == {}
