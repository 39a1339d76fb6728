import pytest
import torch

from finetune.data.augmentation import training_view
from finetune.data.dataset import open_dataset
from finetune.data.loading import Loader
from finetune.data.sampling import batches_of, epoch_order
from finetune.feature_views import training_views
from finetune.feeds import Source
from finetune.spec import DatasetSpec, StageSpec

SEED, INDEX = 3, 1


@pytest.fixture
def case(registry, data_dir):
    """A stage with an augmentation: the source that an epoch draws from, and its views and their choice."""
    preprocessing = registry.find("tiny").preprocessing
    samples = open_dataset(data_dir, DatasetSpec(path="hues"), 0).train

    def source(stage):
        view = training_view(stage.augmentation, preprocessing)
        return Source(Loader(samples, view, 8, 0, False), preprocessing, torch.device("cpu"))

    def make(**fields):
        lr = {"schedule": {"name": "constant", "lr": 0.1}}
        stage = StageSpec.model_validate({"epochs": 6, "lr": lr, **fields})
        plain = StageSpec.model_validate({"epochs": 6, "lr": lr})
        views, choice = training_views(stage, SEED, INDEX)
        still = source(plain) if stage.augmentation.name == "light" else source(stage)
        return source(stage), [torch.cat(list(view.images(still))) for view in views], choice

    return make


def fresh(source, batches, epoch):
    return [images for images, _ in source.place(source.loader.drawn(batches, SEED, INDEX, epoch))]


def shuffled(epoch):
    return batches_of(epoch_order(24, SEED, INDEX, epoch), 8)


def assert_same(source, views, choice, epochs, batches=shuffled, of=lambda epoch: epoch):
    for epoch in epochs:
        given = batches(epoch)
        expected = fresh(source, given, of(epoch))
        for images, chosen, drawn in zip(given, choice(epoch, given), expected, strict=True):
            picked = torch.stack([views[view][image] for image, view in zip(images, chosen, strict=True)])
            assert torch.equal(picked, drawn)


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_enumerable_views_are_those_that_are_drawn_in_every_epoch(case, augmentation):
    source, views, choice = case(augmentation=augmentation)
    assert len(views) == {"none": 1, "light": 2}[augmentation]
    assert_same(source, views, choice, range(4))
    assert_same(source, views, choice, range(2), lambda epoch: [[5, 5, 5, 1], [5, 1, 0, 7]])


def test_light_takes_both_views_and_not_the_same_in_every_epoch(case):
    _, _, choice = case(augmentation="light")
    chosen = [choice(epoch, [list(range(24))])[0] for epoch in range(3)]
    assert all(set(views) == {0, 1} for views in chosen)
    assert chosen[0] != chosen[1] != chosen[2]


@pytest.mark.parametrize("augmentation", ["standard", "trivial", "randaugment"])
def test_the_first_epochs_have_the_views_of_fresh_augmentation_and_later_ones_have_them_again(
    case, augmentation
):
    source, views, choice = case(augmentation=augmentation, feature_views=3)
    assert len(views) == 3
    assert not torch.equal(views[0], views[1])
    assert_same(source, views, choice, range(6), of=lambda epoch: epoch % 3)


def test_an_image_that_stands_twice_in_an_epoch_has_the_next_view(case):
    _, _, choice = case(augmentation="standard", feature_views=3)
    assert choice(1, [[4, 5, 4], [4, 5]]) == [[1, 1, 2], [0, 2]]


def test_no_more_views_are_made_than_the_epochs_take(case):
    _, views, _ = case(augmentation="standard", feature_views=50)
    assert len(views) == 6
