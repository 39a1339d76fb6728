import pytest
from sqlalchemy import func, select

from app.store.attempts import finish, release
from app.store.errors import LeaseLost
from app.store.events import list_events
from app.store.job_reports import get_report, record_report
from app.store.jobs import delete_job
from app.store.records import NewCheckpoint, NewReport
from app.store.reports import record_epoch
from app.store.states import Status
from app.store.tables import reports


def _epoch(number):
    return {"stage": "head", "stage_index": 0, "epoch": number, "global_epoch": number}


def _report(number, weights="a/weights-1"):
    return NewReport(weights, f"report-{number}", 2**40, "ab", f"predictions-{number}", 2**41, "cd")


@pytest.fixture
def held(db, post, take):
    """A job that is held, with a checkpoint, and its hold."""
    job, claim = post(), take()
    new = NewCheckpoint("a/weights-1", 10, "ab", "a/state-1", 20, "cd")
    record_epoch(db, claim, 60, _epoch(1), new, {"checkpoint": new.id, "metric": "m", "value": 1.0})
    return job, claim, new


def test_a_report_is_read_as_it_was_written_with_its_checkpoint_and_its_event(db, held):
    job, claim, checkpoint = held
    assert get_report(db, job.id) is None
    assert record_report(db, claim, 60, _report(1), "it is ready", {"figures": {"accuracy": 0.5}}) is None
    report = get_report(db, job.id)
    assert report is not None
    assert (report.checkpoint, report.attempt) == (checkpoint.id, 1)
    assert (report.path, report.size, report.sha256) == ("report-1", 2**40, "ab")
    assert (report.predictions_path, report.predictions_size) == ("predictions-1", 2**41)
    assert report.predictions_sha256 == "cd"
    assert report.created_at > 0
    event = list_events(db, job.id)[-1]
    assert (event.type, event.level, event.message) == ("job.report", "info", "it is ready")
    assert event.data == {"attempt": 1, "checkpoint": checkpoint.id, "figures": {"accuracy": 0.5}}


def test_a_later_attempts_report_replaces_the_one_before_which_is_returned(db, held, take):
    job, claim, _ = held
    record_report(db, claim, 60, _report(1), "first", {})
    first = get_report(db, job.id)
    release(db, claim, "given back")
    again = take("w2")
    assert record_report(db, again, 60, _report(2), "second", {}) == first
    second = get_report(db, job.id)
    assert second is not None
    assert (second.path, second.attempt) == ("report-2", 2)


def test_an_old_attempt_writes_no_report_and_no_event(db, held, take):
    job, claim, _ = held
    release(db, claim, "given back")
    take("w2")
    events = list_events(db, job.id)
    with pytest.raises(LeaseLost):
        record_report(db, claim, 60, _report(1), "late", {})
    assert get_report(db, job.id) is None
    assert list_events(db, job.id) == events


def test_a_deleted_job_has_no_report(db, held):
    job, claim, _ = held
    record_report(db, claim, 60, _report(1), "ready", {})
    finish(db, claim, Status.SUCCEEDED, "done")
    delete_job(db, job.id)
    assert get_report(db, job.id) is None
    with db.read() as connection:
        assert connection.execute(select(func.count()).select_from(reports)).scalar_one() == 0
