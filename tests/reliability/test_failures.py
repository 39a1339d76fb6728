"""What goes wrong by the job's own doing has a name, and the next job runs."""

import pytest
import torch
from safetensors.torch import load_file

from app.store.checkpoints import list_checkpoints
from app.store.events import list_events

HEAD = [
    {
        "name": "head",
        "epochs": 3,
        "freeze": {"policy": "backbone"},
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "lr": {"schedule": {"name": "constant", "lr": 0.05}},
        "augmentation": "standard",
    }
]


@pytest.fixture
def finish(place, until):
    """Waits for a job's end; gives the job."""

    def wait(job, seconds=60):
        until(lambda: place.ended(job), seconds, "the job has ended")
        return place.look(job)

    return wait


@pytest.fixture(scope="module")
def impatient(make_place):
    """A place with a worker that thinks of a second as long."""
    place = make_place(stall_seconds=1)
    place.work()
    return place


def of(name):
    return {"name": name, "weights": None}


def events(place, job, kind):
    return [event for event in list_events(place.db, job, limit=1000) if event.type == kind]


def last_weights(place, job):
    return load_file(place.files(list_checkpoints(place.db, job)[-1])[0])


@pytest.mark.promise("Out of memory is named with the batch size, and half the batch makes the same steps")
def test_out_of_memory_goes_on_with_half_the_batch_and_the_same_steps(place, worker, finish):
    """24 images in batches of 14 and 10, and then of 7, 7; 7, 3: the last step weighs 7 images against 3."""
    worker()
    fields = {"batch_size": 14, "head": {}, "on_oom": "halve_batch", "max_attempts": 1}
    plain, short = (
        place.post(HEAD, backbone=of(name), **fields, checkpoints={"every_steps": 1})
        for name in ("tiny_net", "greedy")
    )
    whole, halved = finish(plain), finish(short)
    assert (whole.attempt, whole.status) == (1, "succeeded")
    assert (halved.attempt, halved.status, halved.lost_attempts) == (2, "succeeded", 0), halved.error
    (told,) = events(place, short, "job.queued")
    assert told.level == "warning"
    assert "a step with batch_size 14 did not fit into memory" in told.message
    assert "goes on with batch_size 7 instead of 14 and accumulate 2 (stage head)" in told.message
    assert (halved.resolved_spec["batch_size"], halved.resolved_spec["stages"][0]["accumulate"]) == (7, 2)
    assert halved.spec["batch_size"] == 14
    one, other = place.outcome(plain), place.outcome(short)
    assert [figures["lr"] for figures in one.figures] == [figures["lr"] for figures in other.figures]
    for a, b in zip(one.figures, other.figures, strict=True):
        assert b["train"] == pytest.approx(a["train"], rel=1e-5)
        assert b["val"] == pytest.approx(a["val"], rel=1e-5)
    weights = last_weights(place, plain)
    for name, tensor in last_weights(place, short).items():
        assert torch.allclose(tensor, weights[name], rtol=0, atol=1e-6)


@pytest.mark.promise("Out of memory is named with the batch size, and half the batch makes the same steps")
@pytest.mark.parametrize(
    ("name", "on_oom", "batch_size", "attempts"),
    [("greedy", "fail", 14, 1), ("greedier", "halve_batch", 7, 2)],
)
def test_out_of_memory_that_is_not_mended_is_named_with_the_batch_size(
    place, worker, finish, name, on_oom, batch_size, attempts
):
    worker()
    failed = finish(place.post(HEAD, backbone=of(name), batch_size=14, on_oom=on_oom))
    assert (failed.status, failed.attempt) == ("failed", attempts)
    assert (failed.error.code, failed.error.param) == ("out_of_memory", "batch_size")
    assert f"a step with batch_size {batch_size} did not fit into memory" in failed.error.message


@pytest.mark.promise("A loss that is not finite is named by stage, epoch and step, and what was good is kept")
def test_loss_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(place, worker, finish):
    worker()
    rates = {"schedule": {"name": "list", "values": [[0.05, 2], [1e6, 2]]}}
    stage = {"name": "all", "epochs": 4, "lr": rates, "optimizer": {"name": "sgd", "weight_decay": 10.0}}
    failed = finish(job := place.post([stage], checkpoints={"every_steps": 1}))
    assert (failed.status, failed.error.code) == ("failed", "nonfinite_loss")
    assert "in stage 'all', epoch " in failed.error.message
    assert ", step " in failed.error.message
    kept = list_checkpoints(place.db, job)
    assert failed.error.message.endswith(f"; the checkpoint of epoch {kept[-1].global_epoch} is kept")
    assert place.outcome(job).numbers == list(range(1, kept[-1].global_epoch + 1))
    assert all(tensor.isfinite().all() for tensor in last_weights(place, job).values())


@pytest.mark.promise("A job that kills its worker each time is worker_lost in the end; the next one runs")
def test_job_that_kills_its_worker_each_time_is_lost_and_the_next_runs(place, worker, proc, until, finish):
    deadly, next_one = place.post(backbone=of("deadly"), max_attempts=3), place.post(HEAD)
    for number in (1, 2, 3):
        pid = worker()
        until(lambda pid=pid: not proc.alive(pid), 30, "the worker is killed")
        assert place.look(deadly).attempt == number
    worker()
    failed = finish(deadly)
    assert (failed.status, failed.error.code, failed.lost_attempts) == ("failed", "worker_lost", 3)
    assert failed.error.message.endswith("no attempts are left")
    assert finish(next_one).status == "succeeded"


@pytest.mark.promise("A step that hangs, or a job that does nothing before its steps, is noticed and named")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hanging", "nothing was heard of it for 1 s"),
        ("hanging_features", "its processes have done nothing for 1 s"),
    ],
)
def test_attempt_that_hangs_is_ended_and_named_and_the_next_job_runs(impatient, until, name, says):
    place = impatient
    stages = [{**HEAD[0], "augmentation": "none"}] if name == "hanging_features" else HEAD
    job = place.post(stages, backbone=of(name), max_attempts=2)
    following = place.post(HEAD)
    until(lambda: place.ended(following), 60, "the next job has ended")
    failed = place.look(job)
    assert (failed.status, failed.error.code, failed.attempt) == ("failed", "worker_lost", 2)
    assert says in failed.error.message
    assert place.look(following).status == "succeeded"
