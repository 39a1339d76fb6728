import dataclasses

import pytest
import torch

from finetune.data.augmentation import evaluation_view
from finetune.data.dataset import open_dataset
from finetune.data.loading import Loader
from finetune.data.sampling import SAMPLERS, Sampling
from finetune.feature_views import training_views
from finetune.feeds import FeatureFeed, ImageFeed, Source
from finetune.rows import Layout, Rows
from finetune.spec import DatasetSpec, StageSpec

STAGE = StageSpec.model_validate({"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.1}}})


def features_of(source):
    """Eight numbers of each image of a source."""
    images = torch.cat([images for images, _ in source.place(source.loader.in_order())])
    rows = images.flatten(1)[:, :8].contiguous()
    return Rows([rows], Layout.of(rows), len(rows), torch.device("cpu"))


@pytest.fixture(scope="module")
def dataset(data_dir):
    """`hues` with two images of blue fewer, and a weight of its own for each training image."""
    whole = open_dataset(data_dir, DatasetSpec(path="hues"), 0)
    train = [dataclasses.replace(sample, weight=1 + i / 4) for i, sample in enumerate(whole.train[2:])]
    return dataclasses.replace(whole, train=tuple(train))


@pytest.fixture
def feed(registry):
    """Makes a feed of either kind from a dataset and a sampling."""
    row = registry.find("tiny")

    def make(kind, dataset, sampling):
        train, val = (
            Source(
                Loader(samples, evaluation_view(row.preprocessing), 5, 0, False),
                row.preprocessing,
                torch.device("cpu"),
            )
            for samples in (dataset.train, dataset.val)
        )
        model = row.make(3, 16)
        if kind is FeatureFeed:
            rows = [features_of(source) for source in (train, val)]
            _, chosen = training_views(STAGE, 0, 0)
            return FeatureFeed(model.head, (rows[0], train), (rows[1], val), sampling, chosen)
        return ImageFeed(model, train, val, sampling, 0, 0)

    return make


@pytest.mark.parametrize("kind", [ImageFeed, FeatureFeed])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_each_image_of_a_batch_has_its_own_weight_however_it_was_drawn(dataset, feed, sampler, kind):
    batches = SAMPLERS[sampler](dataset, 5, 0, 0)
    drawn = list(feed(kind, dataset, Sampling(batches, 5)).train(1))
    assert len(drawn) == len(batches(1)) == 5
    for batch, indices in zip(drawn, batches(1), strict=True):
        assert batch.weights.dtype == torch.float32
        assert batch.weights.tolist() == [dataset.train[index].weight for index in indices]
        assert batch.labels.tolist() == [dataset.train[index].label for index in indices]


@pytest.mark.parametrize("kind", [ImageFeed, FeatureFeed])
def test_images_that_count_the_same_have_no_weights_and_validation_never_has(dataset, feed, kind):
    alike = tuple(dataclasses.replace(sample, weight=0.5) for sample in dataset.train)
    sampling = Sampling(SAMPLERS["shuffle"](dataset, 5, 0, 0), 5)
    made = feed(kind, dataclasses.replace(dataset, train=alike, val=dataset.train), sampling)
    assert {batch.weights for batch in made.train(0)} == {None}
    assert {len(batch) for batch in made.val()} == {2}


def test_each_feature_comes_with_its_own_label(dataset, feed):
    made = feed(FeatureFeed, dataset, Sampling(SAMPLERS["shuffle"](dataset, 5, 0, 0), 5))
    own: dict[tuple[float, ...], int] = {}
    for inputs, labels, *_ in (*made.train(0), *made.train(1)):
        for row, label in zip(inputs, labels.tolist(), strict=True):
            assert own.setdefault(tuple(row.tolist()), label) == label
    assert len(own) == len(dataset.train)
    assert sum(len(labels) for _, labels in made.val()) == len(dataset.val)
