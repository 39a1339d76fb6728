import json

import pytest

from finetune.data.dataset import open_dataset
from finetune.network import draw, resolve_with
from finetune.plan import make_plan
from finetune.spec import JobSpec
from finetune.tables import tables_of

FACTORS = {"factors": [{"modules": ["fc"], "factor": 10.0}], "default_factor": 0.9}
LISTED = {"name": "list", "values": [[0.01, 10], [0.005, 10], [0.0025, 10]]}
LOGSPACE = {"name": "logspace", "start": -2, "stop": -4, "num": 40}
CONSTANT = {"schedule": {"name": "constant", "lr": 0.1}}


@pytest.fixture
def plan(job, data_dir, registry, tmp_path):
    """The plan of a job with these stages."""

    def make(*stages, **fields):
        spec = resolve_with(registry, JobSpec.model_validate(job(*stages, **fields)))
        dataset = open_dataset(data_dir, spec.dataset, spec.seed)
        blueprint = draw(spec, registry, dataset.classes, tmp_path, None)
        return make_plan(spec, blueprint, dataset, tables_of(spec, blueprint, dataset))

    return make


@pytest.fixture
def resnet18(plan):
    """The plan of a job on a ResNet-18 with random weights."""
    return lambda *stages, **fields: plan(*stages, backbone={"name": "resnet18", "weights": None}, **fields)


GOLDEN = [
    # schedule, epochs, epoch, rate of the rest, rate of the head
    (LISTED, 30, 1, 0.009, 0.1),
    (LISTED, 30, 11, 0.0045, 0.05),
    (LISTED, 30, 30, 0.00225, 0.025),
    (LOGSPACE, 40, 1, 0.009, 0.1),
    (LOGSPACE, 40, 2, 0.00799761, 0.0888624),
    (LOGSPACE, 40, 40, 0.00009, 0.001),
]


@pytest.mark.parametrize(("schedule", "epochs", "epoch", "rest", "head"), GOLDEN)
def test_the_plan_shows_the_golden_rates(resnet18, schedule, epochs, epoch, rest, head):
    (stage,) = resnet18({"epochs": epochs, "lr": {"schedule": schedule, **FACTORS}}).stages
    rates = stage.lr[epoch - 1]
    assert (rates.epoch, len(stage.lr)) == (epoch, epochs)
    assert rates.first == rates.last
    assert rates.first == pytest.approx({"default": rest, "fc": head}, rel=1e-5)


def test_frozen_modules_and_groups_stand_with_their_counts(resnet18):
    plan = resnet18(
        {
            "name": "top",
            "epochs": 2,
            "freeze": {"policy": "before", "module": "layer4"},
            "lr": {"schedule": {"name": "linear", "lr": 0.1, "end_lr": 0.0}, **FACTORS},
            "augmentation": "standard",
            "optimizer": {"name": "sgd", "nesterov": True},
        },
        batch_size=7,
    )
    (stage,) = plan.stages
    assert {frozen.module: frozen.parameters for frozen in stage.frozen} == {
        "conv1": 9408,
        "bn1": 128,
        "layer1": 147968,
        "layer2": 525568,
        "layer3": 2099712,
    }
    assert stage.frozen_parameters == 2782784
    assert stage.trained_parameters == 11178051 - 2782784
    assert plan.backbone == {"name": "resnet18", "parameters": 11178051}
    head, rest = stage.groups
    assert (head.name, head.modules, head.tensors, head.parameters, head.factor) == (
        "fc",
        ["fc"],
        2,
        1539,
        10.0,
    )
    assert (rest.name, rest.modules, rest.tensors, rest.parameters, rest.factor) == (
        "default",
        ["layer4"],
        15,
        8393728,
        0.9,
    )
    assert stage.steps_per_epoch == 4
    assert stage.lr[1].first["fc"] == pytest.approx(0.5)
    assert stage.lr[1].last["fc"] == pytest.approx(0.125)
    assert (stage.augmentation, stage.optimizer) == (
        "standard (crop_scale [0.35, 1.0])",
        "sgd (momentum 0.9, nesterov)",
    )
    assert not stage.features_once
    assert plan.images == {"train": 24, "val": 9}
    assert plan.classes == ["blue", "green", "red"]


@pytest.mark.parametrize(("images", "steps"), [(24, 1), (8, 3), (23, 1), (5, 5), (1, 24)])
def test_steps_are_counted_as_the_loader_cuts_the_batches(plan, images, steps):
    assert plan(batch_size=images).stages[0].steps_per_epoch == steps


def test_a_head_from_random_weights_is_replaced(plan):
    head = plan().head
    assert (head.modules, head.action, head.classes) == (["head"], "replaced", 3)
    assert head.reason == "the network starts from random weights"


BATCH_NORM = [
    ({"freeze": {"policy": "none"}}, "trained in all 20 layers"),
    ({"freeze": {"policy": "backbone"}}, "statistics stand still in 20 frozen layers, trained in 0"),
    (
        {"freeze": {"policy": "before", "module": "layer4"}},
        "statistics stand still in 15 frozen layers, trained in 5",
    ),
    (
        {"freeze": {"policy": "before", "module": "layer4"}, "batch_norm": "update"},
        "statistics follow the data in 15 frozen layers, trained in 5",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), BATCH_NORM, ids=[sentence for _, sentence in BATCH_NORM])
def test_the_plan_says_what_batch_norm_does(resnet18, fields, sentence):
    (stage,) = resnet18({"epochs": 1, "lr": CONSTANT, **fields}).stages
    assert stage.batch_norm == sentence


def test_the_plan_says_where_features_are_computed_once(resnet18):
    head = {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": CONSTANT}
    plan = resnet18(head, {**head, "augmentation": "light"}, {"epochs": 1, "lr": CONSTANT})
    assert [stage.features_once for stage in plan.stages] == [True, False, False]
    assert [stage.options for stage in plan.stages] == [
        [],
        ["features computed in each epoch: 2 views for 1 epoch save nothing"],
        [],
    ]


def test_the_plan_says_what_is_computed_once_and_what_that_saves(resnet18):
    top = {"epochs": 4, "freeze": {"policy": "before", "module": "layer3"}, "lr": CONSTANT}
    plan = resnet18({**top, "augmentation": "light"}, {**top, "features_once": False})
    kept, anew = plan.stages
    assert kept.features is not None
    assert kept.features.model_dump() == {
        "before": "layer3",
        "views": 2,
        "train_images": 24,
        "val_images": 9,
        "bytes": (2 * 24 + 9) * 128 * 28 * 28 * 4,
        "kept": "memory",
        "saving": 0.187,
    }
    assert (anew.features_once, anew.features) == (False, None)
    assert anew.options == ["features computed in each epoch: features_once is false"]


def stage(**fields):
    return {"name": "s", "epochs": 1, "lr": CONSTANT} | fields


VIEWS = {"augmentation": "standard", "feature_views": 3}
WARNINGS = [
    (stage(), {}, []),
    (
        stage(**VIEWS),
        {},
        ["stage 's': feature_views has no effect: nothing before stem.0 stands still"],
    ),
    (
        stage(**VIEWS, epochs=2, freeze={"policy": "before", "module": "body"}),
        {},
        [
            "stage 's': what is frozen has random weights, as backbone.weights is null",
            "stage 's': feature_views 3 is more than the 2 epochs take: each has views of its own",
        ],
    ),
    (
        stage(**VIEWS, freeze={"policy": "before", "module": "body"}) | {"epochs": 3},
        {},
        ["stage 's': what is frozen has random weights, as backbone.weights is null"],
    ),
    (
        stage(freeze={"policy": "modules", "modules": ["body.0"]}, batch_norm="eval"),
        {},
        [
            "stage 's': body.0.0 is frozen between stem.1 and body.1.0, which are trained: it rarely helps",
            "stage 's': what is frozen has random weights, as backbone.weights is null",
        ],
    ),
    (
        stage(
            freeze={"policy": "before", "module": "head"},
            lr={**CONSTANT, "factors": [{"modules": ["stem"], "factor": 2}]},
        ),
        {},
        [
            "stage 's': the factor of 'stem' touches only frozen modules",
            "stage 's': what is frozen has random weights, as backbone.weights is null",
        ],
    ),
    (
        stage(lr={**CONSTANT, "factors": [{"modules": ["stem"], "factor": 0}]}),
        {},
        ["stage 's': the group 'stem' has factor 0: it is trained at a rate of 0"],
    ),
    (
        stage(),
        {"dataset": {"path": "hues", "val_fraction": 0.3}},
        ["dataset.val_fraction has no effect: the dataset has a val split of its own"],
    ),
    (stage(), {"dataset": {"path": "loose", "val_fraction": 0.3}}, []),
    (
        stage(batch_norm="update"),
        {},
        ["stage 's': batch_norm \"update\" has no effect: no frozen module has BatchNorm"],
    ),
]


@pytest.mark.parametrize(("planned", "fields", "expected"), WARNINGS, ids=[str(e) for _, _, e in WARNINGS])
def test_the_plan_warns_of_what_is_allowed_and_rarely_meant(plan, planned, fields, expected):
    assert plan(planned, **fields).warnings == expected


def test_what_the_plan_warns_of_the_run_says_in_events(job, run, told, tmp_path):
    spec = job(stage(freeze={"policy": "modules", "modules": ["body.0"]}))
    assert any("rarely helps" in message for message in told.warnings(run(spec, tmp_path)))


def test_a_second_stage_may_freeze_what_the_first_has_trained(plan):
    assert plan(stage(), stage(name="t", freeze={"policy": "backbone"})).warnings == []


def test_a_recipe_is_planned_as_its_stages(plan):
    spec_fields = {"stages": None, "recipe": {"name": "two_stage", "head_epochs": 2, "full_epochs": 3}}
    stages = plan(**spec_fields).stages
    assert [(s.name, s.epochs, s.features_once) for s in stages] == [("head", 2, True), ("all", 3, False)]


def test_a_plan_is_plain_json(plan):
    dumped = plan().model_dump(mode="json")
    assert dumped["object"] == "fine_tuning.plan"
    assert json.loads(json.dumps(dumped, allow_nan=False)) == dumped
    assert type(plan()).model_validate(dumped).model_dump(mode="json") == dumped


def test_the_plan_shows_which_groups_decay_and_warns_where_none_would(plan):
    spared = {"name": "sgd", "weight_decay": 0.1, "decay_norms_and_biases": False}
    (planned,) = plan(stage(optimizer=spared)).stages
    assert [(g.name, g.weight_decay) for g in planned.groups] == [
        ("default", 0.1),
        ("default (no decay)", 0.0),
    ]
    assert plan(stage(optimizer=spared)).warnings == []
    (warning,) = plan(stage(optimizer={**spared, "weight_decay": 0.0})).warnings
    assert warning == "stage 's': decay_norms_and_biases has no effect: weight_decay is 0"


TRIPLET = {"name": "triplet", "classes_per_batch": 3}
WARNED = [
    (
        [stage()],
        {"range_test": {"start_lr": 1e-4, "steps": 50}},
        "range_test: nothing is trained; the first stage is tried at rates from 0.0001 to 1 in 50 steps, "
        "and no schedule, epoch or later stage is used",
    ),
    (
        [stage()],
        {"objective": TRIPLET, "head": {"keep": "never"}},
        'head.keep "never" has no effect: there is no head',
    ),
    (
        [stage(early_stopping={"patience": 5})],
        {},
        "stage 's': early_stopping has no effect: a patience of 5 is the whole stage",
    ),
    (
        [stage(sampler="balanced")],
        {"objective": {"name": "focal", "class_weights": "balanced"}},
        "stage 's': the sampler and the class weights both balance the classes: small ones count double",
    ),
]


@pytest.mark.parametrize(("stages", "fields", "warning"), WARNED)
def test_what_has_no_effect_or_counts_twice_is_said(plan, stages, fields, warning):
    assert plan(*stages, **fields).warnings == [warning]


def test_gradual_thaws_no_branch_to_an_auxiliary_head_by_itself(plan):
    fields = {"stages": None, "recipe": {"name": "gradual"}, "image_size": 64}
    stages = plan(**fields, backbone={"name": "googlenet", "weights": None}).stages
    assert not any("aux" in planned.name for planned in stages)
    assert [planned.name for planned in stages][:3] == ["head", "from inception5b", "from inception5a"]
