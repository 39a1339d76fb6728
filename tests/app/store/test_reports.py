import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from app.store.attempts import heartbeat
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.controls import cancel_job
from app.store.epochs import list_epochs
from app.store.errors import LeaseLost
from app.store.events import list_events
from app.store.leases import sweep
from app.store.records import NewCheckpoint
from app.store.reports import drop_checkpoints, record_epoch, record_event, record_prepared
from app.store.states import Status


def _epoch(number, **more):
    return {"stage": "head", "stage_index": 0, "epoch": number, "global_epoch": number, **more}


def _files(number, state=True):
    return NewCheckpoint(f"weights-{number}", 10, "ab", f"state-{number}" if state else None, 20, "cd")


def test_epoch_its_checkpoint_and_its_event_are_written_together(db, post, take, reread):
    job, held = post(), take()
    new = NewCheckpoint("a/weights", 2**40, "ab", "a/state", 20, "cd", "val_loss", 0.25)
    best = {"checkpoint": new.id, "metric": "val_loss", "value": 0.25}
    stored = record_epoch(db, held, 60, _epoch(1, lr={"head": 0.1}), new, best)
    assert stored is not None
    assert (stored.id, stored.path, stored.size, stored.state_path) == (new.id, "a/weights", 2**40, "a/state")
    assert (stored.stage, stored.epoch, stored.attempt, stored.value) == ("head", 1, 1, 0.25)
    assert list_checkpoints(db, job.id) == [stored]
    (epoch,) = list_epochs(db, job.id)
    assert (epoch.record, epoch.attempt) == (_epoch(1, lr={"head": 0.1}), 1)
    assert reread(job).best == best
    last = list_events(db, job.id)[-1]
    assert (last.type, last.data["checkpoint"], last.data["global_epoch"]) == ("job.epoch", new.id, 1)


def test_data_of_an_attempt_is_pinned_with_its_event(db, post, take, reread):
    job, held = post(), take()
    assert reread(job).dataset_fingerprint is None
    record_prepared(db, held, 60, "ab" * 32, "ready", {"device": "cpu"})
    assert reread(job).dataset_fingerprint == "ab" * 32
    last = list_events(db, job.id)[-1]
    assert (last.type, last.message, last.data) == ("job.prepared", "ready", {"attempt": 1, "device": "cpu"})


def test_epoch_without_a_new_best_keeps_the_best(db, post, take, reread):
    job, held = post(), take()
    record_epoch(db, held, 60, _epoch(1), best={"checkpoint": "c", "metric": "m", "value": 1.0})
    assert record_epoch(db, held, 60, _epoch(2)) is None
    assert reread(job).best == {"checkpoint": "c", "metric": "m", "value": 1.0}


def test_failed_epoch_writes_nothing(db, post, take):
    job, held = post(), take()
    files = _files(1)
    record_epoch(db, held, 60, _epoch(1), files)
    events = list_events(db, job.id)
    with pytest.raises(IntegrityError):
        record_epoch(db, held, 60, _epoch(2), files)
    with pytest.raises((StatementError, ValueError), match="not JSON compliant"):
        record_epoch(db, held, 60, _epoch(2, loss=float("inf")))
    assert [epoch.epoch for epoch in list_epochs(db, job.id)] == [1]
    assert list_events(db, job.id) == events


def test_old_attempt_writes_no_epoch_no_event_and_drops_no_checkpoint(db, post, take, reread):
    job, old = post(), take(lease_seconds=-1.0)
    kept = record_epoch(db, old, -1.0, _epoch(1), _files(1))
    assert kept is not None
    sweep(db)
    take("w2")
    events = list_events(db, job.id)
    for late_write in (
        lambda: record_epoch(db, old, 60, _epoch(2), _files(2)),
        lambda: record_event(db, old, 60, "late", "late"),
        lambda: record_prepared(db, old, 60, "ab" * 32, "late", {}),
        lambda: drop_checkpoints(db, old, 60, [kept.id]),
    ):
        with pytest.raises(LeaseLost):
            late_write()
    assert [epoch.epoch for epoch in list_epochs(db, job.id)] == [1]
    assert list_checkpoints(db, job.id) == [kept]
    assert list_events(db, job.id) == events
    assert reread(job).dataset_fingerprint is None


def test_attempt_that_fell_back_replaces_the_epochs_from_there_on(db, post, take):
    job, old = post(), take(lease_seconds=-1.0)
    for number in (1, 2, 3):
        record_epoch(db, old, -1.0, _epoch(number))
    sweep(db)
    new = take("w2")
    record_epoch(db, new, 60, _epoch(2))
    assert [(epoch.epoch, epoch.attempt) for epoch in list_epochs(db, job.id)] == [(1, 1), (2, 2)]


def test_epochs_are_listed_in_order_after_the_one_named(db, post, take):
    job, held = post(), take()
    record_epoch(db, held, 60, _epoch(1))
    record_epoch(db, held, 60, _epoch(2))
    record_epoch(db, held, 60, {"stage": "all", "stage_index": 1, "epoch": 1, "global_epoch": 3})
    assert [epoch.global_epoch for epoch in list_epochs(db, job.id)] == [1, 2, 3]
    assert [(epoch.stage, epoch.epoch) for epoch in list_epochs(db, job.id, after_epoch=2)] == [("all", 1)]


def test_every_report_extends_the_lease(db, post, take, reread):
    job, held = post(), take(lease_seconds=-1.0)
    record_epoch(db, held, 60, _epoch(1))
    assert sweep(db) == []
    heartbeat(db, held, -1.0)
    record_event(db, held, 60, "note", "still here")
    assert sweep(db) == []
    assert reread(job).status is Status.RUNNING


def test_job_that_is_being_cancelled_can_still_report(db, post, take):
    job, held = post(), take()
    cancel_job(db, job.id)
    record_epoch(db, held, 60, _epoch(1))
    assert len(list_epochs(db, job.id)) == 1


def test_events_are_listed_after_the_one_named_up_to_the_limit(db, post, take):
    job, held = post(), take()
    for number in range(5):
        record_event(db, held, 60, "note", f"note {number}", "warning", {"number": number})
    notes = [event for event in list_events(db, job.id) if event.type == "note"]
    assert [event.data for event in notes] == [{"attempt": 1, "number": number} for number in range(5)]
    assert list_events(db, job.id, after=notes[1].id, limit=2) == notes[2:4]


def test_events_of_other_jobs_are_not_listed(db, post):
    first, second = post(), post()
    assert len(list_events(db, first.id)) == len(list_events(db, second.id)) == 1
    assert list_events(db, "job_x") == []


def test_dropped_checkpoints_are_returned_and_gone(db, post, take):
    job, held = post(), take()
    first, second = (record_epoch(db, held, 60, _epoch(number), _files(number)) for number in (1, 2))
    assert first is not None
    assert drop_checkpoints(db, held, 60, [first.id, "ckpt_gone"]) == [first]
    assert drop_checkpoints(db, held, 60, [first.id]) == []
    assert drop_checkpoints(db, held, 60, []) == []
    assert list_checkpoints(db, job.id) == [second]


def test_checkpoints_of_other_jobs_are_not_dropped(db, post, take):
    one, two = post(), post()
    kept = record_epoch(db, take(), 60, _epoch(1), _files(1))
    assert kept is not None
    assert drop_checkpoints(db, take(), 60, [kept.id]) == []
    assert list_checkpoints(db, one.id) == [kept]
    assert list_checkpoints(db, two.id) == []


def test_checkpoint_is_found_by_id_as_best_and_as_last(db, post, take):
    job, held = post(), take()
    assert get_checkpoint(db, job.id, "best") is None
    assert get_checkpoint(db, job.id, "last") is None
    new = _files(1)
    first = record_epoch(
        db, held, 60, _epoch(1), new, {"checkpoint": new.id, "metric": "val_loss", "value": 1.0}
    )
    last = record_epoch(db, held, 60, _epoch(2), _files(2))
    assert get_checkpoint(db, job.id, new.id) == get_checkpoint(db, job.id, "best") == first
    assert get_checkpoint(db, job.id, "last") == last
    assert get_checkpoint(db, job.id, "ckpt_x") is None


def test_checkpoint_of_another_job_is_not_found(db, post, take):
    _, other = post(), post()
    stored = record_epoch(db, take(), 60, _epoch(1), _files(1))
    assert stored is not None
    assert get_checkpoint(db, other.id, stored.id) is None
