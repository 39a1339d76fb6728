import pytest
from sqlalchemy import update

from app.store.attempts import finish
from app.store.checkpoints import list_checkpoints
from app.store.errors import LeaseLost
from app.store.events import list_events
from app.store.jobs import delete_job, get_job
from app.store.records import Checkpoint, NewCheckpoint, NewState
from app.store.reports import record_epoch
from app.store.resuming import drop_passed_state, fall_back, list_points, record_state
from app.store.states import Status
from app.store.tables import jobs


@pytest.fixture
def held(post, take):
    post()
    return take()


def state(epoch, step):
    return NewState("all", 0, epoch, epoch, step, f"state-{epoch}-{step}", 7, "cd")


def end_epoch(db, held, number, value=0.5):
    record = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
    new = NewCheckpoint(f"weights-{number}", 1, "ab", f"state-{number}", 1, "cd", "val_accuracy", value)
    record_epoch(db, held, 60, record, new)
    return new.id


def paths(db, held):
    return [p.state_path if isinstance(p, Checkpoint) else p.path for p in list_points(db, held)]


def test_points_are_listed_newest_first_by_age(db, held):
    assert list_points(db, held) == []
    record_state(db, held, 60, state(1, 2))
    assert paths(db, held) == ["state-1-2"]
    end_epoch(db, held, 1)
    assert paths(db, held) == ["state-1", "state-1-2"]
    record_state(db, held, 60, state(2, 2))
    end_epoch(db, held, 2)
    end_epoch(db, held, 3)
    assert paths(db, held) == ["state-3", "state-2", "state-2-2", "state-1"]
    record_state(db, held, 60, state(1, 4))  # of an attempt that fell back
    assert paths(db, held) == ["state-1-4", "state-3", "state-2", "state-1"]


def test_a_checkpoint_without_a_state_is_no_point(db, held):
    end_epoch(db, held, 1)
    record = {"stage": "all", "stage_index": 0, "epoch": 2, "global_epoch": 2}
    record_epoch(db, held, 60, record, NewCheckpoint("weights-2", 1, "ab"))
    assert paths(db, held) == ["state-1"]


def test_a_state_takes_the_place_of_the_one_before_and_goes_when_its_epoch_has_ended(db, held):
    assert record_state(db, held, 60, state(1, 2)) is None
    before = record_state(db, held, 60, state(1, 4))
    assert before is not None
    assert (before.path, before.step, before.after_seq) == ("state-1-2", 2, 0)
    assert drop_passed_state(db, held, 60) is None
    end_epoch(db, held, 1)
    passed = drop_passed_state(db, held, 60)
    assert passed is not None
    assert passed.path == "state-1-4"
    assert drop_passed_state(db, held, 60) is None
    assert paths(db, held) == ["state-1"]


def test_falling_back_deletes_what_is_damaged_and_tells_of_it(db, held):
    first, second = end_epoch(db, held, 1), end_epoch(db, held, 2)
    new = state(3, 2)
    record_state(db, held, 60, new)
    best = {"checkpoint": first, "metric": "val_accuracy", "value": 0.5}
    gone = fall_back(db, held, 60, [new.id, second], best, "damaged: two", {"point": first})
    assert sorted(one.path for one in gone) == ["state-3-2", "weights-2"]
    assert paths(db, held) == ["state-1"]
    job = get_job(db, held.job_id)
    assert job is not None
    assert job.best == best
    told = list_events(db, held.job_id)[-1]
    assert (told.type, told.level, told.message) == ("job.fell_back", "warning", "damaged: two")
    assert told.data == {"attempt": 1, "point": first}
    assert [one.path for one in fall_back(db, held, 60, [first], None, "all", {})] == ["weights-1"]
    after = get_job(db, held.job_id)
    assert after is not None
    assert after.best is None
    assert list_points(db, held) == []


def test_an_attempt_that_has_lost_its_job_writes_none_of_it(db, held):
    record_state(db, held, 60, state(1, 2))
    end_epoch(db, held, 1)
    with db.write() as connection:
        connection.execute(update(jobs).values(worker="another"))
    for write in (
        lambda: record_state(db, held, 60, state(2, 2)),
        lambda: drop_passed_state(db, held, 60),
        lambda: fall_back(db, held, 60, [list_checkpoints(db, held.job_id)[0].id], None, "", {}),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert paths(db, held) == ["state-1", "state-1-2"]


def test_a_deleted_job_has_no_state(db, held):
    record_state(db, held, 60, state(1, 2))
    finish(db, held, Status.SUCCEEDED, "over")
    delete_job(db, held.job_id)
    assert list_points(db, held) == []
