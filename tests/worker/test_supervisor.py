import sqlite3
import time

import pytest
from sqlalchemy import update

from app.store import attempts, database, leases
from app.store.checkpoints import get_checkpoint, list_checkpoints
from app.store.controls import cancel_job, pause_job, resume_job
from app.store.epochs import list_epochs
from app.store.events import list_events
from app.store.states import Status
from app.store.tables import jobs
from finetune.events import (
    CompileChosen,
    EpochRecord,
    FeaturesReady,
    FilesSkipped,
    RunStarted,
    StageEnded,
    StageStarted,
    Warned,
)
from worker.engine import AttemptGone
from worker.orders import Failed


def types(db, job):
    return [event.type for event in list_events(db, job)]


def epochs(db, job):
    return [(epoch.global_epoch, epoch.attempt) for epoch in list_epochs(db, job)]


@pytest.fixture
def becomes(look, until):
    """Waits until a job has a status; gives the job."""

    def wait(job, *statuses, seconds=10):
        until(lambda: look(job).status in statuses, seconds, f"the job is {' or '.join(statuses)}")
        return look(job)

    return wait


def test_epochs_become_rows_and_the_run_s_end_the_job_s(db, post, hire, becomes):
    job = post()
    attempt = hire().attempt()
    plan = {"head": {"action": "replaced"}}
    attempt.say(
        RunStarted(plan, "cpu", "fp32"), Warned("mind the gap"), StageStarted("all", 0, 1, 90, 10, True)
    )
    attempt.epoch(1, 0.5)
    attempt.epoch(2, 0.75)
    attempt.say(StageEnded("all", 0, 2, True))
    attempt.succeed()
    ended = becomes(job, Status.SUCCEEDED)
    assert (ended.result, ended.error, ended.worker) == ({"epochs": 5}, None, None)
    assert epochs(db, job) == [(1, 1), (2, 1)]
    record = list_epochs(db, job)[1].record
    assert set(record) == set(EpochRecord.__dataclass_fields__) - {"nonfinite"}
    assert (record["lr"], record["val"]) == ({"default": 0.1}, {"loss": 0.5, "accuracy": 0.75})
    best = get_checkpoint(db, job, "best")
    assert best is not None
    assert (ended.best["checkpoint"], ended.best["value"]) == (best.id, 0.75)
    assert (best.global_epoch, best.size) == (2, 9)
    assert attempt.acknowledged == 2
    assert attempt.waited
    told = types(db, job)
    assert told == [
        "job.created",
        "job.running",
        "job.prepared",
        "warning",
        "stage.started",
        "job.epoch",
        "job.epoch",
        "stage.ended",
        "job.succeeded",
    ]
    texts = [event.message for event in list_events(db, job)]
    assert "stage all: trains 90 of 100 parameters, features computed once" in texts
    assert "stage all stopped early after 2 epochs" in texts


TOLD = ("job.prepared", "stage.features", "stage.compile")
READY = [(33, 0, 1, 1056, "memory"), (9, 48, 2, 2_000_000, "disk"), (0, 33, 1, 1056, "memory")]


def test_events_say_what_was_computed_and_what_taken_from_the_cache(db, post, hire, becomes):
    job = post()
    attempt = hire().attempt()
    plan = {"head": {"action": "kept"}}
    attempt.say(RunStarted(plan, "cpu", "fp32"), RunStarted(plan, "cpu", "fp32", 3, 30))
    attempt.say(*(FeaturesReady("head", 0, *told) for told in READY))
    attempt.say(CompileChosen("all", 1, False, "16 batches do not repay 25 s"))
    attempt.succeed()
    becomes(job, Status.SUCCEEDED)
    told = list_events(db, job)
    assert [event.message for event in told if event.type in TOLD] == [
        "training on cpu in fp32; the head is kept",
        "training on cpu in fp32; the head is kept; 30 of 33 images were checked before",
        "stage head: features of 33 images computed, 1,056 bytes in memory",
        "stage head: features of 9 images computed, of 48 images taken from the cache, "
        "2 views of each training image, 2,000,000 bytes on disk",
        "stage head: features of 33 images taken from the cache, 1,056 bytes in memory",
        "stage all: compile: off: 16 batches do not repay 25 s",
    ]
    data = [event.data for event in told if event.type == "job.prepared"]
    assert [one["images"] for one in data] == [{"decoded": 0, "known": 0}, {"decoded": 3, "known": 30}]
    (last,) = [event.data for event in told if event.type == "stage.features"][-1:]
    assert (last["stage"], last["stage_index"], last["computed"], last["cached"]) == ("head", 0, 0, 33)


def test_data_of_an_attempt_is_pinned_and_what_it_leaves_out_is_told(db, post, hire, becomes, look):
    job = post()
    attempt = hire().attempt()
    attempt.say(RunStarted({"head": {"action": "kept"}}, "cpu", "fp32", fingerprint="ab" * 32))
    files = {"unreadable": tuple(f"{n}.jpg" for n in range(120)), "leak": ("train/a/1.jpg",)}
    attempt.say(FilesSkipped(files))
    attempt.succeed()
    becomes(job, Status.SUCCEEDED)
    assert look(job).dataset_fingerprint == "ab" * 32
    told = {event.type: event for event in list_events(db, job)}
    assert told["job.prepared"].data["dataset_fingerprint"] == "ab" * 32
    skipped = told["dataset.skipped"]
    assert skipped.level == "warning"
    assert skipped.message == (
        "training without 120 unreadable (0.jpg, 1.jpg, 2.jpg and 117 more), 1 leak (train/a/1.jpg)"
    )
    assert skipped.data["counts"] == {"unreadable": 120, "leak": 1}
    assert skipped.data["files"] == {"unreadable": list(files["unreadable"][:100]), "leak": ["train/a/1.jpg"]}


def test_epoch_is_acknowledged_after_it_is_stored(db, post, hire, until):
    job = post()
    attempt = hire().attempt()
    attempt.epoch(1)
    until(lambda: attempt.acknowledged, 10, "the epoch is acknowledged")
    assert epochs(db, job) == [(1, 1)]


def test_order_holds_all_that_an_attempt_needs(post, hire, artifacts, look):
    job = post()
    settings = {"device": "cpu", "data_workers": 3, "backbones": "zoo:tiny", "cache_bytes": 1000}
    order = hire(**settings, feature_memory_bytes=500).attempt().order
    assert (order.job, order.attempt, order.device, order.data_workers) == (job, 1, "cpu", 3)
    assert order.spec == look(job).resolved_spec
    assert order.folder == artifacts / job / "attempt-1"
    assert order.backbones == ("zoo:tiny",)
    assert (order.points, order.job_file) == ((), None)
    assert (order.cache_dir, order.cache_bytes) == (artifacts.parent / "cache", 1000)
    assert order.checks_dir == artifacts.parent / "checks"
    assert order.feature_memory_bytes == 500


def test_progress_is_seen_while_it_trains(post, hire, look, until):
    job = post()
    attempt = hire(lease_seconds=0.4).attempt()
    attempt.progress(3)
    until(lambda: look(job).progress, 10, "there is progress")
    assert (look(job).progress["step"], look(job).progress["images_per_second"]) == (3, 12.5)


def test_rows_and_files_of_checkpoints_stay_the_same_set(db, post, hire, artifacts, becomes):
    job = post(checkpoints={"keep_last": 2, "keep_best": 1})
    attempt = hire().attempt()
    accuracies = [0.1, 0.9, 0.3, 0.9, 0.2, 0.1]
    for number, accuracy in enumerate(accuracies, start=1):
        attempt.epoch(number, accuracy, best=number == 2)
    attempt.succeed()
    becomes(job, Status.SUCCEEDED)
    kept = list_checkpoints(db, job)
    assert [checkpoint.global_epoch for checkpoint in kept] == [2, 5, 6]
    files = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert files == {path for c in kept for path in (c.path, c.state_path)}
    assert attempt.acknowledged == len(accuracies)
    assert len(epochs(db, job)) == len(accuracies)


def test_exports_of_a_checkpoint_go_with_it(db, post, hire, artifacts, until, becomes):
    job = post(checkpoints={"keep_last": 1, "keep_best": 1})
    attempt = hire().attempt()
    attempt.epoch(1, 0.5, best=True)
    (first,) = until(lambda: list_checkpoints(db, job), 10, "an epoch is stored")
    exports = artifacts / job / "exports"
    (exports / f"{first.id}-onnx.making").mkdir(parents=True)
    (exports / f"{first.id}-onnx.making" / "model.onnx").touch()
    (exports / f"{first.id}-torch.zip").touch()
    (exports / "ckpt_other-torch.zip").touch()
    attempt.epoch(2, 0.9, best=True)
    attempt.succeed()
    becomes(job, Status.SUCCEEDED)
    assert [checkpoint.global_epoch for checkpoint in list_checkpoints(db, job)] == [2]
    assert [path.name for path in exports.iterdir()] == ["ckpt_other-torch.zip"]


def test_cancelled_job_ends_and_the_next_is_taken(db, post, hire, becomes, until):
    first, second = post(), post()
    worker = hire(lease_seconds=0.4)
    attempt = worker.attempt()
    attempt.epoch(1)
    until(lambda: attempt.acknowledged, 10, "the epoch is stored")
    cancel_job(db, first)
    ended = becomes(first, Status.CANCELLED)
    assert attempt.stopped
    assert (ended.worker, ended.error, ended.lost_attempts) == (None, None, 0)
    assert worker.attempt(2).order.job == second
    assert types(db, first)[-2:] == ["job.cancelling", "job.cancelled"]


def test_paused_job_goes_on_from_its_last_epoch_when_it_is_resumed(db, post, hire, becomes, artifacts, until):
    job = post()
    worker = hire(lease_seconds=0.4)
    attempt = worker.attempt()
    attempt.epoch(1)
    until(lambda: attempt.acknowledged, 10, "the epoch is stored")
    pause_job(db, job)
    paused = becomes(job, Status.PAUSED)
    assert (paused.lost_attempts, paused.worker, len(worker.engine.attempts)) == (0, None, 1)
    resume_job(db, job)
    order = worker.attempt(2).order
    assert order.attempt == 2
    assert order.folder == artifacts / job / "attempt-2"
    (point,) = order.points
    assert point.weights == artifacts / job / "attempt-1" / "epoch-00001.safetensors"
    assert point.state == artifacts / job / "attempt-1" / "epoch-00001.state.pt"
    assert point.best == point.weights
    worker.attempt(2).epoch(2)
    worker.attempt(2).succeed()
    becomes(job, Status.SUCCEEDED)
    assert epochs(db, job) == [(1, 1), (2, 2)]


@pytest.mark.promise("A worker that is asked to stop saves and gives its job back, and no attempt is charged")
def test_worker_that_is_stopped_gives_its_job_back_without_charge(db, post, hire, look):
    job = post()
    worker = hire()
    attempt = worker.attempt()
    worker.leave()
    after = look(job)
    assert (after.status, after.lost_attempts, after.worker) == (Status.QUEUED, 0, None)
    assert attempt.stopped
    assert types(db, job)[-1] == "job.queued"


def test_worker_that_is_stopped_before_it_finds_a_job_leaves_the_queue_alone(post, hire, look):
    worker = hire()
    worker.leave()
    assert look(post()).status is Status.QUEUED


def test_attempt_whose_lease_is_lost_is_stopped_and_writes_nothing_more(db, post, hire, until, look):
    job = post()
    worker = hire(lease_seconds=1.0)
    attempt = worker.attempt()
    attempt.epoch(1)
    until(lambda: attempt.acknowledged, 10, "the epoch is stored")
    with db.write() as connection:  # as if the worker had been away for long
        connection.execute(update(jobs).values(lease_until=0.0, worker="another"))
    assert leases.sweep(db) == [job]
    claimed = attempts.claim(db, "another", 60)
    assert claimed is not None
    events = types(db, job)
    attempt.epoch(2)
    attempt.succeed()
    until(lambda: attempt.stopped, 10, "the attempt is stopped")
    assert epochs(db, job) == [(1, 1)]
    assert types(db, job) == events
    assert (look(job).status, look(job).attempt, look(job).worker) == (Status.RUNNING, 2, "another")


def test_attempt_that_dies_is_followed_by_another(db, post, hire, becomes):
    job = post()
    worker = hire()
    worker.attempt(1).say(AttemptGone("its process was ended by SIGKILL"))
    worker.attempt(2).succeed()
    ended = becomes(job, Status.SUCCEEDED)
    assert (ended.lost_attempts, ended.attempt) == (1, 2)
    (queued,) = [event for event in list_events(db, job) if event.type == "job.queued"]
    assert queued.level == "warning"
    assert queued.message == "attempt 1 broke off: its process was ended by SIGKILL"


def test_attempts_that_all_die_end_in_worker_lost(post, hire, becomes):
    job = post(max_attempts=2)
    worker = hire()
    for number in (1, 2):
        worker.attempt(number).say(AttemptGone("its process was ended by SIGSEGV"))
    failed = becomes(job, Status.FAILED)
    assert failed.error.code == "worker_lost"
    assert "SIGSEGV" in failed.error.message
    assert len(worker.engine.attempts) == 2


def test_attempt_that_says_nothing_for_too_long_is_stopped_and_counts_as_lost(post, hire, becomes):
    job = post(max_attempts=1)
    worker = hire(stall_seconds=0.3)
    worker.attempt().progress()
    failed = becomes(job, Status.FAILED)
    assert failed.error.code == "worker_lost"
    assert "nothing was heard of it for 0.3 s" in failed.error.message
    assert worker.attempt().stopped


def test_attempt_may_be_silent_while_it_has_no_steps_to_do(post, hire, look):
    job = post(max_attempts=1)
    attempt = hire(stall_seconds=0.2).attempt()
    attempt.say(StageStarted("head", 0, 1, 10, 100, True))
    time.sleep(0.8)
    assert look(job).status is Status.RUNNING
    assert not attempt.stopped


def test_attempt_that_goes_on_talking_does_not_stall(post, hire, look):
    job = post(max_attempts=1)
    attempt = hire(stall_seconds=0.5).attempt()
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        attempt.progress()
        time.sleep(0.05)
    assert look(job).status is Status.RUNNING
    assert not attempt.stopped


def test_failure_has_its_code_its_field_and_no_second_attempt(db, post, hire, becomes):
    job = post()
    worker = hire()
    worker.attempt().say(
        Failed("dataset_invalid", "there is one class only", "dataset.path", "a stack trace")
    )
    failed = becomes(job, Status.FAILED)
    error = failed.error
    assert (error.code, error.message, error.param) == (
        "dataset_invalid",
        "there is one class only",
        "dataset.path",
    )
    assert failed.lost_attempts == 0
    assert list_events(db, job)[-1].level == "error"
    assert all("a stack trace" not in event.message for event in list_events(db, job))
    assert len(worker.engine.attempts) == 1


def test_failure_of_a_job_that_is_being_cancelled_is_a_cancellation(db, post, hire, becomes):
    job = post()
    attempt = hire(lease_seconds=60).attempt()  # a second between two looks at the job
    cancel_job(db, job)
    attempt.say(Failed("internal", "no luck"))
    assert becomes(job, Status.CANCELLED).error is None


def test_database_that_is_locked_for_less_than_a_lease_costs_nothing(
    db, post, hire, becomes, tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 20)  # or the driver would wait by itself
    job = post()
    worker = hire(lease_seconds=4.0)
    attempt = worker.attempt()
    attempt.epoch(1)
    other = sqlite3.connect(tmp_path / "thaw.db", isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    attempt.epoch(2)
    attempt.epoch(3)
    attempt.succeed()
    time.sleep(1.5)  # the lock's length is what is tested
    other.execute("ROLLBACK")
    other.close()
    ended = becomes(job, Status.SUCCEEDED)
    assert (ended.attempt, ended.lost_attempts) == (1, 0)
    assert epochs(db, job) == [(1, 1), (2, 1), (3, 1)]
    assert types(db, job).count("job.epoch") == 3


def test_worker_whose_database_is_away_waits_for_it(hire, post, becomes, tmp_path, monkeypatch, until):
    monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 20)
    other = sqlite3.connect(tmp_path / "thaw.db", isolation_level=None)
    job = post()
    other.execute("BEGIN IMMEDIATE")
    worker = hire()
    time.sleep(0.5)  # some looks in vain
    assert worker.thread.is_alive()
    assert worker.engine.attempts == []
    other.execute("ROLLBACK")
    other.close()
    worker.attempt().succeed()
    becomes(job, Status.SUCCEEDED)


def test_attempt_that_cannot_be_started_does_not_end_the_worker(post, hire, becomes):
    worker = hire()
    worker.engine.full = 1
    job = post(max_attempts=2)
    assert worker.attempt().order.attempt == 2
    worker.attempt().succeed()
    assert becomes(job, Status.SUCCEEDED).lost_attempts == 1
    worker.engine.full = 2
    hopeless = becomes(post(max_attempts=2), Status.FAILED)
    assert "could not be started (Resource temporarily unavailable)" in hopeless.error.message


def test_job_of_a_lost_worker_is_taken_by_the_next(db, post, hire, becomes):
    job = post()
    assert attempts.claim(db, "a worker that is gone", 0.2) is not None
    worker = hire(lease_seconds=0.4)
    assert worker.attempt().order.attempt == 2
    worker.attempt().succeed()
    assert becomes(job, Status.SUCCEEDED).lost_attempts == 1


def test_jobs_are_taken_one_after_the_other(db, post, hire, becomes):
    made = [post() for _ in range(3)]
    worker = hire()
    for number, job in enumerate(made, start=1):
        attempt = worker.attempt(number)
        assert attempt.order.job == job
        assert len(worker.engine.attempts) == number
        attempt.succeed()
        becomes(job, Status.SUCCEEDED)


def test_weights_of_another_job_are_found_for_the_attempt(db, post, hire, becomes, artifacts):
    first = post()
    worker = hire()
    worker.attempt().epoch(1)
    worker.attempt().succeed()
    becomes(first, Status.SUCCEEDED)
    post(backbone={"name": "tiny_net", "weights": {"job": first, "checkpoint": "best"}})
    assert worker.attempt(2).order.job_file == artifacts / first / "attempt-1" / "epoch-00001.safetensors"
    worker.attempt(2).succeed()
    post(backbone={"name": "tiny_net", "weights": {"job": "job_gone"}})
    assert worker.attempt(3).order.job_file is None
