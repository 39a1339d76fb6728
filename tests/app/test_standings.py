import pytest

from app.standings import overall, seconds, table, values_of
from app.store.records import Trial
from app.store.states import Status


def trial(variant="a", seed=0, status=Status.SUCCEEDED, value=0.5, epoch=3, started=10.0, finished=14.0):
    return Trial(f"job_{variant}{seed}", variant, seed, status, started, finished, value, epoch)


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["queued", "queued"], "queued"),
        (["queued", "paused"], "queued"),
        (["queued", "running"], "running"),
        (["queued", "succeeded"], "running"),
        (["queued", "failed"], "running"),
        (["cancelling", "cancelled"], "running"),
        (["pausing", "queued"], "running"),
        (["succeeded", "succeeded"], "succeeded"),
        (["succeeded", "failed", "cancelled"], "failed"),
        (["succeeded", "cancelled"], "cancelled"),
        ([], "cancelled"),
    ],
)
def test_the_status_follows_from_the_jobs(statuses, status):
    assert overall([Status(each) for each in statuses]) == status


def test_only_jobs_that_have_succeeded_count():
    trials = [
        trial(seed=0, value=0.5),
        trial(seed=1, value=0.75, status=Status.RUNNING, finished=None),
        trial(seed=2, value=0.75, status=Status.FAILED),
        trial(seed=3, value=None),
        trial(seed=4, value=1.0, epoch=6, finished=20.0),
        trial("b", seed=0, value=0.25, status=Status.CANCELLED),
    ]
    values = values_of(trials, ["a", "b"])
    assert values == {"a": {0: 0.5, 4: 1.0}, "b": {}}
    first, second = table(trials, values, range(5))
    assert (first.variant, first.n, first.mean, first.failed) == ("a", 2, 0.75, 1)
    assert first.std == pytest.approx(0.125**0.5)
    assert first.values == {0: 0.5, 1: None, 2: None, 3: None, 4: 1.0}
    assert (first.best_epoch, first.seconds) == (4.5, 7.0)
    assert (second.n, second.mean, second.std, second.best_epoch, second.seconds) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_one_value_has_no_spread():
    (row,) = table([trial()], values_of([trial()], ["a"]), [0])
    assert (row.mean, row.std) == (0.5, None)


def test_time_is_known_of_jobs_that_began_and_ended():
    assert seconds(trial()) == 4.0
    assert seconds(trial(finished=None)) is None
    assert seconds(trial(started=None)) is None  # cancelled in the queue
