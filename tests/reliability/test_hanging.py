"""Attempts that hang, in a step and before there are any."""

import pytest

from tests.reliability.test_failures import HEAD


@pytest.fixture(scope="module")
def impatient(make_place):
    """A place with a worker that thinks of a second as long."""
    place = make_place(stall_seconds=1)
    place.work()
    return place


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
    job = place.post(stages, backbone={"name": name, "weights": None}, max_attempts=2)
    following = place.post(HEAD)
    until(lambda: place.ended(following), 60, "the next job has ended")
    failed = place.look(job)
    assert (failed.status, failed.error.code, failed.attempt) == ("failed", "worker_lost", 2)
    assert says in failed.error.message
    assert place.look(following).status == "succeeded"
