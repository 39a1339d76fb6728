from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.dataset import Dataset, Sample
from finetune.data.sampling import balanced_order, epoch_order, sampling_of
from finetune.spec import CrossEntropy
from finetune.spec.stages import StageSpec

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)
PLACES = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 3), st.integers(0, 9))  # seed, stage, epoch


@given(LABELS, PLACES)
def test_a_balanced_epoch_has_every_class_as_often_as_another_to_one(labels, place):
    order = balanced_order(labels, *place)
    times = Counter(labels[index] for index in order)
    assert len(order) == len(labels)
    assert set(times) == set(labels)
    assert max(times.values()) - min(times.values()) <= 1


@given(st.integers(1, 5), st.integers(0, 4), PLACES)
def test_more_classes_than_places_for_each_leave_none_twice(classes, more, place):
    labels = [*range(classes), *[0] * more]
    times = Counter(labels[index] for index in balanced_order(labels, *place))
    assert sum(times.values()) == len(labels)
    assert max(times.values()) - min(times.values()) <= 1


@given(LABELS, PLACES)
def test_no_image_stands_again_before_every_other_of_its_class_has_stood(labels, place):
    times = Counter(balanced_order(labels, *place))
    for label in set(labels):
        own = [times[index] for index, other in enumerate(labels) if other == label]
        assert max(own) - min(own) <= 1


@given(LABELS, PLACES)
def test_a_balanced_order_is_the_same_for_the_same_place(labels, place):
    assert balanced_order(labels, *place) == balanced_order(labels, *place)


def test_a_balanced_order_is_another_for_another_seed_stage_and_epoch():
    labels = [0] * 20 + [1] * 5
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({tuple(balanced_order(labels, *place)) for place in places}) == 4


def test_who_gets_the_place_that_is_left_over_is_drawn():
    labels = [0, 0, 0, 0, 1]
    more = {
        Counter(labels[i] for i in balanced_order(labels, seed, 0, 0)).most_common(1)[0][0]
        for seed in range(20)
    }
    assert more == {0, 1}


def test_classes_are_mixed_in_the_order():
    labels = [0] * 50 + [1] * 50
    halves = [labels[index] for index in balanced_order(labels, 0, 0, 0)][:50]
    assert 15 < sum(halves) < 35


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_a_stages_sampler_says_its_batches(sampler):
    samples = tuple(Sample(Path(f"{i}.png"), label) for i, label in enumerate([0] * 9 + [1] * 2))
    dataset = Dataset("d", ("a", "b"), samples, samples[:1], True)
    stage = StageSpec.model_validate(
        {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}, "sampler": sampler}
    )
    sampling = sampling_of(stage, CrossEntropy(), dataset, 4, 7, 2)
    order = [index for batch in sampling.batches(3) for index in batch]
    expected = (
        epoch_order(11, 7, 2, 3) if sampler == "shuffle" else balanced_order([0] * 9 + [1] * 2, 7, 2, 3)
    )
    assert order == expected
    assert sampling.count == len(sampling.batches(3)) == 3
