import pytest
from sqlalchemy import update

from app.store import controls
from app.store.attempts import finish
from app.store.checkpoints import list_checkpoints
from app.store.errors import JobNotFound, NotEnded
from app.store.experiments import list_trials
from app.store.jobs import create_job, get_job
from app.store.records import NewCheckpoint
from app.store.reports import record_epoch
from app.store.retention import drop_all_but_best, jobs_with_old_checkpoints, old_experiments, old_jobs
from app.store.states import Status
from app.store.tables import experiments, jobs

DAY = 86_400.0


@pytest.fixture
def age(db):
    """Lets jobs have ended, and experiments been made, so many seconds ago."""

    def shift(seconds, *ids):
        with db.write() as connection:
            for table, column in ((jobs, "finished_at"), (experiments, "created_at")):
                value = table.c[column] - seconds
                connection.execute(update(table).where(table.c.id.in_(ids)).values({column: value}))

    return shift


@pytest.fixture
def end(db, post):
    """Makes a job and ends it by cancelling it."""

    def end(**values):
        return controls.cancel_job(db, post(**values).id)

    return end


@pytest.fixture
def trained(db, post, take):
    """A job that has ended with checkpoints of these values; gives it and the checkpoints' ids."""

    def train(values, best=None, status=Status.SUCCEEDED):
        post(priority=1000)
        held, ids = take(), []
        for number, value in enumerate(values, 1):
            new = NewCheckpoint(f"{held.job_id}/{number}", 1, "0" * 64, metric="val_accuracy", value=value)
            named = {"checkpoint": new.id, "metric": "val_accuracy", "value": value}
            place = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
            record_epoch(db, held, 60, place, new, named if number == best else None)
            ids.append(new.id)
        finish(db, held, status, "done")
        return held.job_id, ids

    return train


def test_a_job_is_old_so_long_after_its_end(db, end, age):
    young, old, older = end(), end(), end()
    age(DAY + 60, old.id)
    age(2 * DAY, older.id)
    age(DAY - 60, young.id)
    assert old_jobs(db, DAY) == [older.id, old.id]
    assert old_jobs(db, DAY, limit=1) == [older.id]


def test_a_job_that_has_not_ended_is_never_old(db, post, take, age):
    post(priority=1)
    running, queued = take(), post()
    age(10 * DAY, running.job_id, queued.id)
    assert old_jobs(db, 0.0) == []


@pytest.mark.promise("Retention takes nothing that a job still needs")
def test_a_job_whose_checkpoint_another_one_begins_with_is_not_old_before_that_has_ended(db, end, post, age):
    source, parent, free = end(), end(), end()
    age(2 * DAY, source.id, parent.id, free.id)
    weights = {"backbone": {"weights": {"job": source.id, "checkpoint": "best"}}}
    waiting = post(resolved_spec=weights)
    child, _ = create_job(db, spec={}, resolved_spec={}, parent=parent)
    assert old_jobs(db, DAY) == [free.id]
    controls.cancel_job(db, waiting.id)
    controls.cancel_job(db, child.id)
    assert set(old_jobs(db, DAY)) == {source.id, parent.id, free.id}


def test_specs_without_such_weights_keep_nothing(db, end, post, age):
    old = end()
    age(2 * DAY, old.id)
    for weights in (None, "DEFAULT", {"file": "a.safetensors"}):
        post(resolved_spec={"backbone": {"weights": weights}})
    assert old_jobs(db, DAY) == [old.id]


def test_an_experiment_is_old_as_a_whole(db, experiment, age):
    made = experiment(variants=("a", "b"), seeds=(0,))
    trials = [job.id for job in list_trials(db, made.id)]
    controls.cancel_experiment(db, made.id)
    age(2 * DAY, made.id, trials[0])
    assert old_experiments(db, DAY) == []  # its other job has ended just now
    age(2 * DAY, trials[1])
    assert old_experiments(db, DAY) == [made.id]
    assert old_jobs(db, DAY) == []  # they go with it


def test_an_experiment_with_a_job_that_has_not_ended_is_not_old(db, experiment, age):
    made = experiment(variants=("a", "b"), seeds=(0,))
    first, *_ = list_trials(db, made.id)
    controls.cancel_job(db, first.id)
    age(2 * DAY, made.id, first.id)
    assert old_experiments(db, DAY) == []


def test_an_experiment_whose_job_another_one_begins_with_is_not_old(db, experiment, post, age):
    made = experiment(variants=("a",), seeds=(0,))
    (trial,) = list_trials(db, made.id)
    controls.cancel_job(db, trial.id)
    age(2 * DAY, made.id, trial.id)
    post(resolved_spec={"backbone": {"weights": {"job": trial.id, "checkpoint": "best"}}})
    assert old_experiments(db, DAY) == []


def test_the_best_checkpoint_of_an_old_job_is_left(db, trained, age):
    job, (first, second, third) = trained([0.5, 0.9, 0.7], best=2)
    assert jobs_with_old_checkpoints(db, DAY) == []
    age(2 * DAY, job)
    assert jobs_with_old_checkpoints(db, DAY) == [job]
    assert {checkpoint.id for checkpoint in drop_all_but_best(db, job)} == {first, third}
    assert [checkpoint.id for checkpoint in list_checkpoints(db, job)] == [second]
    assert jobs_with_old_checkpoints(db, DAY) == []


def test_the_newest_is_left_where_none_is_the_best(db, trained):
    job, (first, second) = trained([None, None], status=Status.FAILED)
    assert [checkpoint.id for checkpoint in drop_all_but_best(db, job)] == [first]
    assert [checkpoint.id for checkpoint in list_checkpoints(db, job)] == [second]


def test_checkpoints_of_a_job_that_has_not_ended_are_not_dropped(db, post, take):
    post()
    held = take()
    with pytest.raises(NotEnded):
        drop_all_but_best(db, held.job_id)
    with pytest.raises(JobNotFound):
        drop_all_but_best(db, "job_none")


@pytest.mark.promise("Retention takes nothing that a job still needs")
def test_a_checkpoint_that_a_branch_starts_from_stays_until_the_branch_has_ended(db, trained, age):
    job, (first, _, third) = trained([0.5, 0.9, 0.7], best=2)
    age(2 * DAY, job)
    parent = get_job(db, job)
    branch, _ = create_job(db, spec={}, resolved_spec={}, parent=parent, branched_from=first)
    assert jobs_with_old_checkpoints(db, DAY) == []
    assert old_jobs(db, DAY) == []
    assert {gone.id for gone in drop_all_but_best(db, job)} == {third}  # by whoever did not look before
    retried, _ = create_job(db, spec={}, resolved_spec={}, parent=controls.cancel_job(db, branch.id))
    assert retried.branched_from == first
    assert job not in old_jobs(db, DAY)
    controls.cancel_job(db, retried.id)
    assert old_jobs(db, DAY) == [job]
    assert {gone.id for gone in drop_all_but_best(db, job)} == {first}
