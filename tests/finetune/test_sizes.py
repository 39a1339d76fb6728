import dataclasses
import json

import pytest
import safetensors
from torch import nn

from finetune.backbones import Registry
from finetune.data.dataset import open_dataset
from finetune.data.preprocessing import Preprocessing
from finetune.errors import SpecInvalid
from finetune.network import draw, resolve_with
from finetune.plan import make_plan
from finetune.preflight import check
from finetune.sizes import sizes_of
from finetune.spec import JobSpec
from finetune.tables import tables_of

HEAD_ALONE = {
    "epochs": 1,
    "freeze": {"policy": "backbone"},
    "lr": {"schedule": {"name": "constant", "lr": 0.1}},
}
RESNET = {"name": "resnet18", "weights": None}
VIT = {"name": "vit_b_16", "weights": None}


@pytest.fixture
def sizes(job, registry):
    """What `sizes_of` makes of a job: (resize, crop) of evaluation and of training."""

    def find(preprocessing, **fields):
        spec = JobSpec.model_validate(job(preprocessing=preprocessing, **fields))
        both = sizes_of(spec, registry.find(spec.backbone.name), None)
        return [(one.resize, one.crop) for one in both]

    return find


@pytest.fixture
def problems(job, registry, data_dir, tmp_path):
    """The problems of a job as (param, code, message)."""

    def find(preprocessing, **fields):
        found = check(job(preprocessing=preprocessing, **fields), registry, data_dir, tmp_path)
        return [(problem.param, problem.code, problem.message) for problem in found]

    return find


@pytest.mark.parametrize(
    ("preprocessing", "fields", "expected"),
    [
        ({}, {}, [(20, 16), (20, 16)]),
        ({"train_size": 12}, {}, [(20, 16), (15, 12)]),
        ({"train_size": 24}, {}, [(20, 16), (30, 24)]),
        ({"eval_resize": 16}, {}, [(16, 16), (16, 16)]),
        ({"eval_resize": 32, "train_size": 8}, {}, [(32, 16), (16, 8)]),
        ({}, {"image_size": 32}, [(40, 32), (40, 32)]),
        ({"train_size": 16}, {"image_size": 32}, [(40, 32), (20, 16)]),
        ({"eval_resize": 32}, {"image_size": 32}, [(32, 32), (32, 32)]),
    ],
    ids=str,
)
def test_each_size_changes_what_it_names_and_the_rest_in_proportion(sizes, preprocessing, fields, expected):
    assert sizes(preprocessing, **fields) == expected


def test_all_but_the_sizes_is_the_same_in_training(job, registry):
    spec = JobSpec.model_validate(job(preprocessing={"train_size": 12}))
    evaluation, training = sizes_of(spec, registry.find("tiny"), None)
    assert dataclasses.replace(training, resize=20, crop=16) == evaluation


def test_what_the_weights_expect_comes_before_the_backbones_own(job, registry):
    from finetune.backbones.weights import Source

    spec = JobSpec.model_validate(job(preprocessing={"eval_resize": 64}))
    source = Source(
        "a checkpoint",
        lambda model: {},
        preprocessing=Preprocessing(resize=50, crop=40, mean=(0.1, 0.2, 0.3)),
    )
    evaluation, training = sizes_of(spec, registry.find("tiny"), source)
    assert (evaluation.resize, evaluation.crop, evaluation.mean) == (64, 40, (0.1, 0.2, 0.3))
    assert training == evaluation


def test_an_eval_resize_below_the_crop_is_refused(problems):
    ((param, code, message),) = problems({"eval_resize": 15})
    assert (param, code) == ("preprocessing.eval_resize", "eval_resize_too_small")
    assert message == "is smaller than the 16 pixels that evaluation cuts out of it: give 16 or more"
    assert [code for _, code, _ in problems({"eval_resize": 16}, image_size=32)] == ["eval_resize_too_small"]
    assert problems({"eval_resize": 16}) == []


def test_an_eval_resize_is_held_against_the_crop_of_the_named_weights(problems):
    swag = {"name": "vit_b_16", "weights": "IMAGENET1K_SWAG_E2E_V1"}
    ((param, _, message),) = problems({"eval_resize": 300}, backbone=swag)
    assert param == "preprocessing.eval_resize"
    assert "384 pixels" in message
    assert problems({"eval_resize": 300}, backbone={**swag, "weights": "IMAGENET1K_V1"}) == []


def test_an_eval_resize_for_a_jobs_checkpoint_is_judged_when_the_size_is_known(problems):
    weights = {"name": "tiny", "weights": {"job": "job_1"}}
    assert problems({"eval_resize": 15}, backbone=weights) == []
    assert [param for param, _, _ in problems({"eval_resize": 15}, backbone=weights, image_size=16)] == [
        "preprocessing.eval_resize"
    ]


def test_a_network_for_one_size_takes_no_other_train_size(problems):
    ((param, code, message),) = problems({"train_size": 160}, backbone=VIT)
    assert (param, code) == ("preprocessing.train_size", "train_size_unfit")
    assert message.startswith(
        "vit_b_16 is made for images of one size, 224 pixels here: leave train_size out"
    )
    assert problems({"train_size": 224}, backbone=VIT) == []
    assert problems({"train_size": 64}, backbone=VIT, image_size=64) == []


def test_a_train_size_that_a_network_does_not_take_is_refused_as_an_image_size_would_be(problems):
    inception = {"name": "inception_v3", "weights": None}
    ((param, code, message),) = problems({"train_size": 32}, backbone=inception)
    assert (param, code) == ("preprocessing.train_size", "image_size_unfit")
    assert message.startswith("inception_v3 does not take images of 32 pixels")
    assert problems({"train_size": 160}, backbone=RESNET) == []


def test_a_train_size_is_judged_beside_a_part_that_is_wrong(problems):
    inception = {"name": "inception_v3", "weights": None}
    params = [param for param, _, _ in problems({"train_size": 32}, backbone=inception, batch_size=0)]
    assert params == ["batch_size", "preprocessing.train_size"]


def test_images_are_not_resized_beyond_all_measure(problems):
    ((param, _, message),) = problems({"eval_resize": 4096, "train_size": 4096}, image_size=8)
    assert param == "preprocessing.train_size"
    assert message.startswith(
        "images would be resized to 2097152 pixels before 4096 are cut out, the most is 8192"
    )


@pytest.mark.parametrize(
    "preprocessing", [{"train_size": 7}, {"train_size": 12.0}, {"eval_resize": 4097}, {"size": 12}], ids=str
)
def test_sizes_that_are_none_are_refused_by_name(problems, preprocessing):
    ((param, _, _),) = problems(preprocessing)
    assert param == f"preprocessing.{next(iter(preprocessing))}"


@pytest.fixture
def blueprint_and_tables(job, data_dir, registry, tmp_path):
    """What a run of a job works with."""

    def make(*stages, **fields):
        spec = resolve_with(registry, JobSpec.model_validate(job(*stages, **fields)))
        dataset = open_dataset(data_dir, spec.dataset, spec.seed)
        blueprint = draw(spec, registry, dataset.classes, tmp_path, None)
        tables = tables_of(spec, blueprint, dataset)
        return make_plan(spec, blueprint, dataset, tables), tables

    return make


def test_the_plan_shows_both_ways_to_prepare_images(blueprint_and_tables):
    plan, _ = blueprint_and_tables(preprocessing={"train_size": 12, "eval_resize": 24})
    assert [(p["resize"], p["crop"]) for p in (plan.preprocessing, plan.training_preprocessing)] == [
        (24, 16),
        (18, 12),
    ]
    plan, _ = blueprint_and_tables()
    assert plan.preprocessing == plan.training_preprocessing


def test_a_run_refuses_what_only_its_weights_tell(job, run, registry, data_dir, tmp_path):
    larger = dataclasses.replace(registry.find("tiny"), preprocessing=Preprocessing(resize=40, crop=32))
    with pytest.raises(SpecInvalid) as refused:
        run(job(preprocessing={"eval_resize": 20}), tmp_path, registry=Registry({"tiny": larger}))
    assert refused.value.param == "preprocessing.eval_resize"


def test_a_checkpoint_carries_evaluations_preprocessing(job, run, told, tmp_path):
    events = run(job(HEAD_ALONE, preprocessing={"train_size": 12, "eval_resize": 24}), tmp_path)
    with safetensors.safe_open(told.checkpoints(events)[-1].weights, framework="pt") as file:
        carried = json.loads(file.metadata()["preprocessing"])
    assert (carried["resize"], carried["crop"]) == (24, 16)


class Watched(nn.Module):
    """Notes the side of each image that it sees, with its mode."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, num_classes)

    def forward(self, images):
        if images.device.type != "meta":
            SEEN.append((images.shape[-1], len(images)))
        return self.head(self.stem(images).mean((2, 3)))


SEEN: list[tuple[int, int]] = []


@pytest.mark.parametrize("once", [True, False])
def test_training_sees_images_of_the_train_size_and_evaluation_of_its_own(job, run, registry, tmp_path, once):
    """24 training and 9 validation images, these once more for the report; with features once, each once,
    and one of either size that is made up."""
    row = dataclasses.replace(registry.find("tiny"), name="watched", build=Watched, containers=())
    SEEN.clear()
    spec = job(
        {**HEAD_ALONE, "epochs": 2, "features_once": once},
        backbone={"name": "watched", "weights": None},
        preprocessing={"train_size": 12},
    )
    events = run(spec, tmp_path, registry=Registry({"watched": row}))
    assert [e.features_once for e in events if hasattr(e, "features_once")] == [once]
    images = {side: sum(count for s, count in SEEN if s == side) for side, _ in SEEN}
    assert images == {12: 24 + 1 if once else 48, 16: (9 + 1 if once else 18) + 9}


def test_features_once_trains_on_the_views_of_the_train_size(job, run, told, tmp_path):
    once, anew = (
        told.records(
            run(
                job({**HEAD_ALONE, "epochs": 2, "features_once": once}, preprocessing={"train_size": 12}),
                tmp_path / str(once),
            )
        )
        for once in (True, False)
    )
    other = told.records(run(job({**HEAD_ALONE, "epochs": 2}), tmp_path / "other"))
    for a, b, c in zip(once, anew, other, strict=True):
        assert a.train["loss"] == pytest.approx(b.train["loss"], rel=1e-4)
        assert a.val == pytest.approx(b.val, rel=1e-4)
        assert a.train["loss"] != pytest.approx(c.train["loss"], rel=1e-4)


@pytest.mark.parametrize("preprocessing", [{"train_size": 12}, {"eval_resize": 28}], ids=str)
def test_each_size_changes_the_run(job, run, told, tmp_path, preprocessing):
    plain = told.records(run(job(HEAD_ALONE), tmp_path / "plain"))[0]
    other = told.records(run(job(HEAD_ALONE, preprocessing=preprocessing), tmp_path / "other"))[0]
    assert plain.train["loss"] != other.train["loss"]
    assert plain.val["loss"] != other.val["loss"]
