"""What a stage computes once, and what keeping it takes."""

import dataclasses

import pytest
from torch import nn

from finetune.data.dataset import open_dataset
from finetune.features import Room
from finetune.network import draw, resolve_with
from finetune.spec import JobSpec
from finetune.tables import tables_of

GB = 10**9


@pytest.fixture
def tables(registry, data_dir, tmp_path):
    """The tables of a spec's stages; keywords are the room that there is."""

    def of(spec, rows=registry, **room):
        resolved = resolve_with(rows, JobSpec.model_validate(spec))
        dataset = open_dataset(data_dir, resolved.dataset, 0)
        blueprint = draw(resolved, rows, dataset.classes, tmp_path, None)
        return tables_of(resolved, blueprint, dataset, Room(**room))

    return of


@pytest.fixture
def features(job, tables):
    """What one stage with these fields computes once, or why nothing; `room` is what there is for it."""

    def of(room=None, job_fields=None, **fields):
        stage = {
            "epochs": 4,
            "freeze": {"policy": "backbone"},
            "lr": {"schedule": {"name": "constant", "lr": 0.1}},
            **fields,
        }
        table = tables(job(stage, **(job_fields or {})), **(room or {}))[0]
        assert (table.features is None) == (table.anew_because is not None) == (not table.features_once)
        return table.features or table.anew_because

    return of


def test_the_views_the_size_and_the_saving_are_those_of_the_stage(features):
    found = features()
    assert (found.views, found.train_images, found.val_images) == (1, 24, 9)
    assert found.size == (24 + 9) * 8 * 4
    before, behind = 8 * 8 * 4 * 27 + 4 * 4 * 8 * (36 + 72), 24
    once = 33 * before + 4 * behind * (24 * 3 + 9)
    anew = 4 * (24 * (before + 3 * behind) + 9 * (before + behind))
    assert found.saving == pytest.approx(1 - once / anew)


@pytest.mark.parametrize(
    ("fields", "views"),
    [
        ({"augmentation": "light"}, 2),
        ({"augmentation": "standard", "feature_views": 3}, 3),
        ({"augmentation": "trivial", "feature_views": 9}, 4),
    ],
    ids=str,
)
def test_each_view_takes_its_room(features, fields, views):
    found = features(**fields)
    assert (found.views, found.size) == (views, (views * 24 + 9) * 8 * 4)


def test_a_precision_of_two_bytes_takes_half(features):
    assert features(job_fields={"precision": "bf16"}).size == features().size / 2


REASONS = [
    ({"features_once": False}, "features_once is false"),
    ({"mix": "mixup"}, "mixup makes new images in each epoch"),
    ({"mix": "cutmix"}, "cutmix makes new images in each epoch"),
    (
        {"augmentation": "standard"},
        "standard draws new views in each epoch; feature_views keeps some",
    ),
    (
        {"augmentation": "randaugment"},
        "randaugment draws new views in each epoch; feature_views keeps some",
    ),
    ({"freeze": {"policy": "none"}}, "nothing before stem.0 stands still"),
    ({"freeze": {"policy": "modules", "modules": ["head"]}}, "nothing before stem stands still"),
    ({"augmentation": "light", "epochs": 1}, "2 views for 1 epoch save nothing"),
]


@pytest.mark.parametrize(("fields", "reason"), REASONS, ids=[str(fields) for fields, _ in REASONS])
def test_a_stage_that_keeps_no_features_says_why(features, fields, reason):
    assert features(**fields) == reason


def test_features_go_into_memory_else_to_the_disk_else_nowhere(features):
    size = features().size
    assert features({"memory": size, "disk": 0}).kept == "memory"
    assert features({"memory": size - 1, "disk": size}).kept == "disk"
    assert features({"memory": 0, "disk": size - 1}) == "too large: 1.06 kB of features, budget 1.05 kB"
    assert features({"memory": 10, "disk": 0}) == "too large: 1.06 kB of features, budget 10 bytes"


def test_features_much_larger_than_the_images_are_not_kept(job, registry, tables):
    class Wide(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, num_classes)

        def forward(self, images):
            return self.head(self.stem(images).amax((2, 3)))

    class Wider(Wide):
        def forward(self, images):
            return self.head(nn.functional.dropout(self.stem(images), 0.1, self.training).amax((2, 3)))

    reasons = []
    for build in (Wide, Wider):
        row = dataclasses.replace(registry.find("tiny"), name="wide", build=build, containers=())
        head = {
            "epochs": 2,
            "freeze": {"policy": "backbone"},
            "lr": {"schedule": {"name": "constant", "lr": 1}},
        }
        spec = job(head, backbone={"name": "wide", "weights": None})
        reasons.append(tables(spec, dataclasses.replace(registry, registered={"wide": row}))[0].anew_because)
    assert reasons == [None, "the features before head are 5 times as large as the images"]


def test_gradual_thawing_keeps_features_of_every_stage_with_a_frozen_beginning(job, tables):
    stages = [
        {
            "epochs": 2,
            "freeze": freeze,
            "lr": {"schedule": {"name": "constant", "lr": 0.1}},
            "gradient_checkpointing": True,
        }
        for freeze in (
            {"policy": "backbone"},
            {"policy": "before", "module": "body.1"},
            {"policy": "before", "module": "body.0"},
            {"policy": "none"},
        )
    ]
    drawn = tables(job(*stages))
    boundaries = [table.features.boundary.before if table.features else None for table in drawn]
    assert boundaries == ["head", "body.1", "body", None]
    recomputed = [table.recomputed for table in drawn]
    assert recomputed == [
        (),
        ("body.1",),
        ("body.0", "body.1"),
        ("stem", "body.0", "body.1", "head"),
    ]
