from collections import Counter
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.class_batches import ClassBatches, check
from finetune.data.dataset import Dataset, Sample
from finetune.data.sampling import sampling_of
from finetune.errors import SpecInvalid
from finetune.seeds import derive
from finetune.spec.objectives import Triplet
from finetune.spec.stages import StageSpec


@st.composite
def drawn(draw):
    """Batches of P and K from classes that fill them, with the samples' labels."""
    per_batch, per_class = draw(st.integers(2, 6)), draw(st.integers(2, 5))
    sizes = st.integers(per_class, per_class + 9)
    counts = draw(st.lists(sizes, min_size=per_batch, max_size=per_batch + 7))
    labels = draw(st.permutations([label for label, n in enumerate(counts) for _ in range(n)]))
    seed = draw(st.integers(0, 1000))
    batches = ClassBatches(labels, per_batch, per_class, lambda *of: derive(seed, *of))
    return batches, labels, per_batch, per_class


@given(case=drawn(), epoch=st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_each_batch_has_p_classes_with_k_images_each_all_distinct(case, epoch):
    batches, labels, per_batch, per_class = case
    found = batches.of_epoch(epoch)
    assert len(found) == batches.count == max(1, round(len(labels) / (per_batch * per_class)))
    for batch in found:
        assert len(set(batch)) == len(batch)
        assert list(Counter(labels[index] for index in batch).values()) == [per_class] * per_batch


@given(case=drawn())
@settings(max_examples=60, deadline=None)
def test_every_image_is_shown_once_each_class_has_come_for_all_of_its_groups(case):
    batches, labels, per_batch, per_class = case
    sizes = Counter(labels)
    groups = max(ceil(n / per_class) for n in sizes.values())
    epochs = ceil(ceil(groups * len(sizes) / per_batch) / batches.count)
    shown = {index for epoch in range(epochs) for batch in batches.of_epoch(epoch) for index in batch}
    assert shown == set(range(len(labels)))


@given(case=drawn(), first=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_every_class_comes_as_often_as_another_to_one(case, first):
    batches, labels, *_ = case
    came: Counter[int] = Counter()
    for epoch in range(first + 1):
        came.update({labels[i]: 0 for i in range(len(labels))})
        came.update(label for batch in batches.of_epoch(epoch) for label in {labels[i] for i in batch})
    assert max(came.values()) - min(came.values()) <= 1


def test_equal_classes_that_fill_the_batches_show_every_image_once_an_epoch():
    labels = [label for label in range(8) for _ in range(12)]
    batches = ClassBatches(labels, 4, 3, lambda *of: derive(5, *of))
    for epoch in range(4):
        assert Counter(i for batch in batches.of_epoch(epoch) for i in batch) == Counter(range(96))


def dataset(counts, val=2):
    train = tuple(Sample(Path("x.png"), label) for label, n in enumerate(counts) for _ in range(n))
    held_out = tuple(Sample(Path("y.png"), label) for label in range(len(counts)) for _ in range(val))
    return Dataset("numbers", tuple("abcdefgh"[: len(counts)]), train, held_out, True)


def objective(p, k):
    return Triplet(name="triplet", classes_per_batch=p, images_per_class=k)


STAGE = StageSpec.model_validate({"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}})


def test_batches_follow_from_seed_stage_and_epoch_and_from_nothing_else():
    def batches(seed=0, stage=0, epoch=0, batch_size=32):
        drawn = sampling_of(STAGE, objective(4, 2), dataset([6] * 5), batch_size, seed, stage)
        return drawn.batches(epoch)

    assert batches() == batches(batch_size=7)
    others = [batches(seed=1), batches(stage=1), batches(epoch=1), batches(epoch=2)]
    assert all(other != batches() for other in others)
    assert len(batches()) == 4  # 30 images in batches of 8


REFUSED = [
    (
        ([9, 3, 5], 3, 4),
        "objective.images_per_class",
        "the class 'b' has 3 training images and a batch takes 4 of each class: "
        "add images or take 3 or fewer",
    ),
    (
        ([9, 3, 2], 2, 4),
        "objective.images_per_class",
        "the class 'c' has 2 training images and a batch takes 4 of each class (2 classes have too few): "
        "add images or take 2 or fewer",
    ),
    (
        ([9, 1], 2, 2),
        "objective.images_per_class",
        "the class 'b' has 1 training image and a batch takes 2 of each class: add images",
    ),
    (
        ([9, 9, 9], 8, 4),
        "objective.classes_per_batch",
        "the dataset has 3 classes and a batch takes 8: add classes or take 3 or fewer",
    ),
]


@pytest.mark.parametrize(("case", "param", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_a_dataset_that_does_not_fill_the_batches_is_refused_with_what_to_change(case, param, message):
    counts, p, k = case
    with pytest.raises(SpecInvalid) as caught:
        sampling_of(STAGE, objective(p, k), dataset(counts), 32, 0, 0)
    assert [(problem.param, problem.message) for problem in caught.value.problems] == [(param, message)]


def test_classes_with_one_validation_image_each_are_refused():
    with pytest.raises(SpecInvalid, match="no class has two validation images") as caught:
        check(objective(2, 2), dataset([4, 4], val=1))
    assert caught.value.param == "dataset.path"


def test_every_problem_is_told_at_once():
    with pytest.raises(SpecInvalid) as caught:
        check(objective(3, 5), dataset([4, 9], val=1))
    assert [problem.param for problem in caught.value.problems] == [
        "objective.classes_per_batch",
        "objective.images_per_class",
        "dataset.path",
    ]


def test_a_dataset_that_just_fills_the_batches_is_taken():
    check(objective(2, 4), dataset([4, 4]))
