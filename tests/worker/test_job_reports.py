"""What the supervisor makes of a run's report, and what it tells an attempt of the best checkpoint so far."""

from app.store.checkpoints import get_checkpoint
from app.store.events import list_events
from app.store.job_reports import get_report
from app.store.states import Status
from worker.engine import AttemptGone


def test_a_report_becomes_a_row_and_an_event_with_the_score_that_came_again(
    db, post, hire, until, look, artifacts
):
    job = post()
    attempt = hire().attempt()
    attempt.epoch(1, 0.75)
    attempt.epoch(2, 0.5, best=False)
    folder = artifacts / job / "attempt-1"
    event = attempt.report(folder / "epoch-00001.safetensors")
    attempt.succeed()
    until(lambda: look(job).status is Status.SUCCEEDED, 10, "the job has succeeded")
    report, best = get_report(db, job), get_checkpoint(db, job, "best")
    assert report is not None
    assert best is not None
    assert (report.checkpoint, report.attempt) == (best.id, 1)
    assert (report.path, report.size, report.sha256) == (
        f"{job}/attempt-1/report.json",
        event.files.size,
        event.files.sha256,
    )
    assert report.predictions_path == f"{job}/attempt-1/predictions.parquet"
    (told,) = [one for one in list_events(db, job) if one.type == "job.report"]
    assert told.message == (
        "the best checkpoint was loaded anew and gives val_accuracy 0.75, as was stored; "
        "the report is ready: accuracy 0.75"
    )
    assert told.data == {
        "attempt": 1,
        "checkpoint": best.id,
        "figures": event.figures,
        "reproduced": event.reproduced,
        "seconds": 1.5,
    }


def test_an_attempt_that_comes_after_a_report_puts_its_own_in_the_place_of_it(
    db, post, hire, until, look, artifacts
):
    job = post()
    worker = hire()
    first = artifacts / job / "attempt-1"
    worker.attempt(1).epoch(1, 0.75)
    worker.attempt(1).report(first / "epoch-00001.safetensors")
    worker.attempt(1).say(AttemptGone("its process was ended by SIGKILL"))
    second = worker.attempt(2)
    assert (first / "report.json").exists()
    second.report(first / "epoch-00001.safetensors")
    second.succeed()
    until(lambda: look(job).status is Status.SUCCEEDED, 10, "the job has succeeded")
    report = get_report(db, job)
    assert report is not None
    assert (report.attempt, report.path) == (2, f"{job}/attempt-2/report.json")
    assert (artifacts / report.path).read_bytes() == b"report of attempt 2"
    assert not (first / "report.json").exists()
    assert not (first / "predictions.parquet").exists()
    assert (first / "epoch-00001.safetensors").exists()


def test_an_order_names_the_best_checkpoint_of_the_attempts_before(post, hire, artifacts, db):
    job = post(checkpoints={"keep_last": 1, "keep_best": 1})
    worker = hire()
    assert worker.attempt(1).order.points == ()
    worker.attempt(1).epoch(1, 0.75)
    worker.attempt(1).epoch(2, 0.5, best=False)
    worker.attempt(1).say(AttemptGone("its process was ended by SIGKILL"))
    newest, before = worker.attempt(2).order.points
    best = get_checkpoint(db, job, "best")
    assert best is not None
    for point in (newest, before):
        assert point.best == artifacts / job / "attempt-1" / "epoch-00001.safetensors"
        assert point.best_sha256 == best.sha256
    assert newest.weights == artifacts / job / "attempt-1" / "epoch-00002.safetensors"
    assert before.weights == before.best
