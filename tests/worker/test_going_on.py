"""From what an attempt leaves to where the next one goes on: points, damage, memory, room."""

import pytest

from app.store.checkpoints import list_checkpoints
from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.events import list_events
from app.store.states import Status
from worker.engine import AttemptGone
from worker.orders import Failed, FellBack
from worker.reserve import Reserve

KILLED = AttemptGone("its process was ended by SIGKILL")


@pytest.fixture
def becomes(look, until):
    """Waits until a job has a status; gives the job."""

    def wait(job, status):
        until(lambda: look(job).status is status, 10, f"the job is {status}")
        return look(job)

    return wait


def names(points):
    return [point.state.name.removesuffix(".state.pt") for point in points]


def test_the_next_attempt_goes_on_within_the_epoch_with_the_best_so_far(post, hire, artifacts):
    post(checkpoints={"every_steps": 2})
    worker = hire()
    first = worker.attempt()
    first.state(1, 2)
    first.epoch(1, 0.5)
    first.state(2, 2)
    first.state(2, 4)
    first.say(KILLED)
    newest, before = worker.attempt(2).order.points
    assert names([newest, before]) == ["epoch-00002-step-0000004", "epoch-00001"]
    assert (newest.weights, newest.place) == (None, "step 4 of epoch 2")
    assert newest.best == before.weights == first.order.folder / "epoch-00001.safetensors"
    assert sorted(path.name for path in first.order.folder.glob("*-step-*")) == [newest.state.name]


def test_no_state_within_an_epoch_is_left_when_the_job_has_ended(db, post, hire, becomes, artifacts):
    job = post(checkpoints={"every_steps": 2})
    attempt = hire().attempt()
    attempt.state(1, 2)
    attempt.epoch(1, 0.5)
    attempt.state(2, 2)
    attempt.epoch(2, 0.7)
    attempt.succeed()
    becomes(job, Status.SUCCEEDED)
    files = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert files == {path for c in list_checkpoints(db, job) for path in (c.path, c.state_path)}


def test_while_a_job_runs_what_the_newest_checkpoint_has_taken_the_place_of_stays(db, post, hire, until):
    job = post(checkpoints={"keep_last": 1, "keep_best": 1})
    attempt = hire().attempt()
    for number, accuracy in enumerate([0.1, 0.2, 0.3], start=1):
        attempt.epoch(number, accuracy)
    until(lambda: attempt.acknowledged == 3 and len(list_checkpoints(db, job)) == 2, 10, "all is let go of")
    assert [checkpoint.global_epoch for checkpoint in list_checkpoints(db, job)] == [2, 3]


def test_an_attempt_that_falls_back_leaves_no_row_of_what_is_damaged_and_the_best_as_it_was(
    db, post, hire, until, look
):
    job = post()
    worker = hire()
    for number, accuracy in ((1, 0.5), (2, 0.9)):
        worker.attempt().epoch(number, accuracy)
    worker.attempt().state(3, 2)
    worker.attempt().say(KILLED)
    second = worker.attempt(2)
    state, newest, before = second.order.points
    second.say(FellBack(before.id, (state.id, newest.id), "step 2 of epoch 3 (a.state.pt); epoch 2 (b)"))
    until(lambda: len(list_checkpoints(db, job)) == 1, 10, "the damaged rows are gone")
    assert look(job).best == {"checkpoint": before.id, "metric": "val_accuracy", "value": 0.5}
    told = list_events(db, job)[-1]
    assert (told.type, told.level) == ("job.fell_back", "warning")
    assert told.message == (
        "damaged, and not used: step 2 of epoch 3 (a.state.pt); epoch 2 (b); goes on from epoch 1"
    )
    left = sorted(path.name for path in worker.attempt().order.folder.iterdir())
    assert left == ["epoch-00001.safetensors", "epoch-00001.state.pt"]
    second.epoch(2, 0.9)
    until(lambda: look(job).best["value"] == 0.9, 10, "there is a new best")


def test_out_of_memory_is_tried_once_more_with_half_the_batch(db, post, hire, becomes, look):
    job = post(on_oom="halve_batch", batch_size=32, max_attempts=1)
    worker = hire()
    worker.attempt().say(Failed("out_of_memory", "it did not fit", "batch_size"))
    order = worker.attempt(2).order
    assert (order.spec["batch_size"], order.spec["stages"][0]["accumulate"]) == (16, 2)
    assert look(job).lost_attempts == 0
    (told,) = [event for event in list_events(db, job) if event.type == "job.queued"]
    assert told.level == "warning"
    worker.attempt(2).say(Failed("out_of_memory", "it did not fit either", "batch_size"))
    failed = becomes(job, Status.FAILED)
    assert (failed.error.code, failed.error.message) == ("out_of_memory", "it did not fit either")
    assert len(worker.engine.attempts) == 2


def test_out_of_memory_fails_a_job_that_does_not_ask_for_another_try(post, hire, becomes):
    job = post()
    worker = hire()
    worker.attempt().say(Failed("out_of_memory", "it did not fit", "batch_size"))
    assert becomes(job, Status.FAILED).error.code == "out_of_memory"
    assert len(worker.engine.attempts) == 1


def test_a_reserve_takes_real_room_and_gives_it_up(tmp_path):
    reserve = Reserve(tmp_path / "home", 2**20)
    assert reserve.keep()
    (file,) = (tmp_path / "home").iterdir()
    assert file.stat().st_blocks * 512 >= 2**20
    assert reserve.keep()
    reserve.give_up()
    reserve.give_up()
    assert list((tmp_path / "home").iterdir()) == []


def test_a_worker_without_room_for_the_database_takes_no_job_until_there_is_some(
    post, hire, look, until, monkeypatch
):
    room = list[bool]()
    keep = Reserve.keep
    monkeypatch.setattr(Reserve, "keep", lambda reserve: bool(room) and keep(reserve))
    worker, job = hire(), post()
    until(lambda: worker.supervisor._swept, 10, "the worker is at work")
    until(lambda: not worker.engine.attempts and look(job).status is Status.QUEUED, 1, "it takes none")
    room.append(True)
    worker.attempt().succeed()
    until(lambda: look(job).status is Status.SUCCEEDED, 10, "the job has succeeded")


def test_a_database_whose_disk_is_full_gives_up_the_reserve(url):
    full = []
    db = Database(url, on_full=lambda: full.append(True))

    def fill():
        with db.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.exec_driver_sql("CREATE TABLE room AS SELECT hex(zeroblob(400000)) AS text")

    with pytest.raises(StoreUnavailable) as told:
        fill()
    assert "full" in str(told.value.__cause__)
    assert full == [True]
    db.dispose()
