from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Barrier

import pytest
from sqlalchemy.exc import IntegrityError

from app.store.attempts import claim, finish, heartbeat
from app.store.controls import cancel_experiment, cancel_job
from app.store.errors import (
    AlreadyRetried,
    ExperimentEnded,
    ExperimentNotEnded,
    ExperimentNotFound,
    IdempotencyConflict,
    UnknownCursor,
)
from app.store.events import list_events
from app.store.experiments import (
    create_experiment,
    delete_experiment,
    get_experiment,
    list_experiments,
    list_trials,
)
from app.store.jobs import counts_by_status, create_job, delete_job, get_job, list_jobs
from app.store.records import Experiment, NewCheckpoint, NewTrial
from app.store.reports import record_epoch
from app.store.states import Status
from app.store.tables import experiments, metadata

TRIAL = NewTrial("a", 0, "x/a/0", {}, 0, 3, {}, {})


def cells(db, made):
    return [(trial.variant, trial.seed, trial.status) for trial in list_trials(db, made.id)]


def test_experiment_record_has_every_column():
    assert {field.name for field in fields(Experiment)} == {column.name for column in experiments.columns}


def test_new_experiment_has_its_jobs_in_the_order_in_which_they_are_taken(db, experiment):
    made = experiment(variants=("a", "b"), seeds=(0, 5), name="which", metadata={"x": "y"})
    assert get_experiment(db, made.id) == made
    assert (made.name, made.metadata, made.seeds, made.metric) == (
        "which",
        {"x": "y"},
        [0, 5],
        "val_accuracy",
    )
    expected = [("a", 0), ("b", 0), ("a", 5), ("b", 5)]
    assert cells(db, made) == [(*cell, Status.QUEUED) for cell in expected]
    for variant, seed in expected:
        held = claim(db, "w", 60)
        assert held is not None
        job = get_job(db, held.job_id)
        assert job is not None
        assert (job.experiment, job.variant, job.seed) == (made.id, variant, seed)
        assert (job.name, job.metadata, job.spec) == (f"x/{variant}/{seed}", {"team": "zoo"}, {"seed": seed})
        assert [event.type for event in list_events(db, job.id)] == ["job.created", "job.running"]


def test_an_experiment_and_its_jobs_are_stored_all_or_none(db, experiment):
    values = {"id": "exp_1", "metadata": {}, "spec": {}, "variants": [], "seeds": [], "metric": "m"}
    broken = NewTrial("b", None, "x", {}, 0, 3, {}, {})  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        create_experiment(db, values, [TRIAL, broken])
    assert get_experiment(db, "exp_1") is None
    assert sum(counts_by_status(db).values()) == 0


def test_same_key_and_request_give_the_same_experiment_and_no_more_jobs(db, experiment):
    first = experiment(idempotency_key="k", request_hash="h")
    assert experiment(idempotency_key="k", request_hash="h") == first
    assert counts_by_status(db)[Status.QUEUED] == 4
    with pytest.raises(IdempotencyConflict, match="'k' was used before"):
        experiment(idempotency_key="k", request_hash="other")


def test_racing_requests_with_one_key_make_one_experiment(db, experiment):
    barrier = Barrier(6)

    def make(_):
        barrier.wait()
        return experiment(idempotency_key="k", request_hash="h").id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(make, range(6)))) == 1
    assert counts_by_status(db)[Status.QUEUED] == 4


def test_pages_hold_each_experiment_once_newest_first(db, experiment):
    made = [experiment().id for _ in range(5)]
    first, more = list_experiments(db, limit=3)
    rest, none = list_experiments(db, after=first[-1].id, limit=3)
    assert [each.id for each in first + rest] == made[::-1]
    assert (more, none) == (True, False)
    with pytest.raises(UnknownCursor, match="there is no experiment exp_x to continue after"):
        list_experiments(db, after="exp_x")


def test_a_trial_has_the_value_and_the_global_epoch_of_its_best_checkpoint(db, experiment):
    made = experiment(variants=("a",), seeds=(3,))
    assert [(trial.value, trial.best_epoch) for trial in list_trials(db, made.id)] == [(None, None)]
    held = claim(db, "w", 60)
    assert held is not None
    for number, value in ((1, 0.5), (2, 0.75), (3, 0.625)):
        new = NewCheckpoint("p", 1, "s", metric="val_accuracy", value=value)
        best = {"checkpoint": new.id, "metric": "val_accuracy", "value": value} if number < 3 else None
        where = {"stage": "all", "stage_index": 1, "epoch": number, "global_epoch": number + 10}
        record_epoch(db, held, 60, where, new, best)
    finish(db, held, Status.SUCCEEDED, "done")
    (trial,) = list_trials(db, made.id)
    assert (trial.value, trial.best_epoch, trial.status) == (0.75, 12, Status.SUCCEEDED)
    assert trial.started_at is not None
    assert trial.finished_at is not None
    assert trial.finished_at >= trial.started_at


def test_jobs_can_be_listed_by_experiment(db, experiment, post):
    post()
    first, second = experiment(), experiment()
    found, more = list_jobs(db, experiment=first.id)
    assert ({job.experiment for job in found}, len(found), more) == ({first.id}, 4, False)
    assert list_jobs(db, experiment=second.id, status=Status.RUNNING) == ([], False)
    assert list_jobs(db, experiment="exp_x") == ([], False)


def test_a_retry_takes_the_place_of_the_job_that_it_repeats(db, experiment):
    made = experiment(variants=("a", "b"), seeds=(0,))
    old = get_job(db, list_trials(db, made.id)[0].id)
    assert old is not None
    cancel_job(db, old.id)
    new, _ = create_job(db, spec={}, resolved_spec={}, parent=old)
    assert (new.experiment, new.variant, new.seed, new.parent) == (made.id, "a", 0, old.id)
    assert cells(db, made) == [("a", 0, Status.QUEUED), ("b", 0, Status.QUEUED)]
    assert {trial.id for trial in list_trials(db, made.id)} == {
        new.id,
        *(job.id for job in list_jobs(db, experiment=made.id)[0] if job.variant == "b"),
    }


def test_a_cell_is_tried_again_once_at_a_time(db, experiment):
    made = experiment(variants=("a",), seeds=(0,))
    old = get_job(db, list_trials(db, made.id)[0].id)
    assert old is not None
    cancel_job(db, old.id)
    new, _ = create_job(db, spec={}, resolved_spec={}, parent=old)
    with pytest.raises(AlreadyRetried, match=f"job {new.id} has the place of job {old.id}"):
        create_job(db, spec={}, resolved_spec={}, parent=old)
    cancel_job(db, new.id)
    again, _ = create_job(db, spec={}, resolved_spec={}, parent=old)
    assert [trial.id for trial in list_trials(db, made.id)] == [again.id]


def test_a_retry_whose_experiment_is_gone_says_so(db, experiment):
    made = experiment(variants=("a",), seeds=(0,))
    old = get_job(db, list_trials(db, made.id)[0].id)
    assert old is not None
    cancel_experiment(db, made.id)
    delete_experiment(db, made.id)
    with pytest.raises(ExperimentNotFound, match=f"there is no experiment {made.id}"):
        create_job(db, spec={}, resolved_spec={}, parent=old)


def test_cancelling_ends_what_waits_and_asks_the_worker_of_what_runs(db, experiment):
    made = experiment()
    held, done = claim(db, "w", 60), claim(db, "w", 60)
    assert held is not None
    assert done is not None
    finish(db, done, Status.SUCCEEDED, "done")
    other = experiment()
    cancel_experiment(db, made.id)
    assert [status for *_, status in cells(db, made)] == ["cancelling", "succeeded", "cancelled", "cancelled"]
    assert {status for *_, status in cells(db, other)} == {Status.QUEUED}
    cancel_experiment(db, made.id)  # a worker may take its time
    assert heartbeat(db, held, 60) is Status.CANCELLING
    finish(db, held, Status.CANCELLED, "stopped")
    with pytest.raises(ExperimentEnded, match=f"experiment {made.id} has ended and cannot be cancelled"):
        cancel_experiment(db, made.id)


def test_a_deleted_experiment_leaves_no_row_of_it(db, experiment):
    made = experiment(variants=("a", "b"), seeds=(0,))
    held = claim(db, "w", 60)
    assert held is not None
    where = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
    record_epoch(db, held, 60, where, NewCheckpoint("p", 1, "s"))
    with pytest.raises(ExperimentNotEnded, match="2 jobs have not ended in experiment"):
        delete_experiment(db, made.id)
    finish(db, held, Status.FAILED, "no luck")
    with pytest.raises(ExperimentNotEnded, match="1 job has not ended in experiment"):
        delete_experiment(db, made.id)
    cancel_experiment(db, made.id)
    ids = [trial.id for trial in list_trials(db, made.id)]
    assert sorted(delete_experiment(db, made.id)) == sorted(ids)
    with db.read() as connection:
        assert all(connection.execute(table.select()).all() == [] for table in metadata.tables.values())


def test_deleting_one_job_leaves_its_cell_empty(db, experiment):
    made = experiment(variants=("a", "b"), seeds=(0,))
    job = list_trials(db, made.id)[0].id
    cancel_job(db, job)
    delete_job(db, job)
    assert cells(db, made) == [("b", 0, Status.QUEUED)]


@pytest.mark.parametrize("call", [cancel_experiment, delete_experiment])
def test_calls_for_unknown_experiments_say_so(db, call):
    with pytest.raises(ExperimentNotFound, match="there is no experiment exp_x"):
        call(db, "exp_x")


def test_an_unknown_experiment_is_none(db):
    assert get_experiment(db, "exp_x") is None
    assert list_trials(db, "exp_x") == []
