import pytest

from finetune.retention import best_of, long_superseded, superseded
from finetune.spec import CheckpointSpec


def kept(values, **spec):
    """The epochs (from 1) whose checkpoints stay, where each epoch's is pruned as the loop does it."""
    here: list[tuple[int, float | None]] = []
    for epoch, value in enumerate(values, start=1):
        here.append((epoch, value))
        gone = superseded(here, CheckpointSpec(**spec))
        here = [(e, v) for e, v in here if e not in gone]
    return [epoch for epoch, _ in here]


CASES = [
    ([0.1, 0.2, 0.3], {}, [3]),
    ([0.3, 0.2, 0.1], {}, [1, 3]),
    ([0.3, 0.2, 0.1], {"metric": "val_loss"}, [3]),
    ([0.1, 0.2, 0.3], {"metric": "val_loss"}, [1, 3]),
    ([0.5, 0.9, 0.7, 0.8, 0.1], {"keep_best": 2}, [2, 4, 5]),
    ([0.5, 0.9, 0.7, 0.8, 0.1], {"keep_last": 3}, [2, 3, 4, 5]),
    ([0.5, 0.9, 0.7, 0.8, 0.1], {"keep_last": 2, "keep_best": 3}, [2, 3, 4, 5]),
    ([0.4, 0.4, 0.4], {}, [1, 3]),
    ([None, None, None], {}, [1, 3]),
    ([None, 0.2, None], {}, [2, 3]),
    ([0.1], {"keep_last": 5, "keep_best": 5}, [1]),
]


@pytest.mark.parametrize(("values", "spec", "expected"), CASES, ids=str)
def test_the_last_and_the_best_stay(values, spec, expected):
    assert kept(values, **spec) == expected


def test_what_the_newest_has_taken_the_place_of_stays_for_one_more():
    spec, here, kept = CheckpointSpec(), list[tuple[int, float | None]](), []
    for epoch, value in enumerate([0.3, 0.5, 0.4, 0.1, 0.9, 0.8], start=1):
        here.append((epoch, value))
        gone = long_superseded(here, spec)
        here = [(e, v) for e, v in here if e not in gone]
        kept.append([e for e, _ in here])
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6]]


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ([], None, None),
        ([None, None], None, 1),
        ([0.1, 0.3, 0.3], None, 2),
        ([0.3, None, 0.1, 0.2], "val_loss", 3),
    ],
)
def test_the_best_is_the_first_of_the_best_values(values, metric, expected):
    assert best_of(list(enumerate(values, start=1)), CheckpointSpec(metric=metric)) == expected
