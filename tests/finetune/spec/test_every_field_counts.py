"""No field of the spec is accepted and ignored: changing any one of them changes what a run does.

`CASES` has a row for every field of every part of the spec, and a test holds it against the parts themselves:
a new field without a row is a failure. A row is what a spec says before and after; the runs of both must end
with other figures, other weights, other files, or, for the few in `SHOWN`, another plan.
"""

import json
import shutil
from collections.abc import Iterator
from typing import Any, Literal, get_origin

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from finetune.events import EpochEnded, RunEnded, RunStarted
from finetune.spec.base import Part
from finetune.spec.job import JobSpec, ResolvedSpec

Fields = dict[str, Any]
Case = tuple[Fields, Fields]
RATE = {"schedule": {"name": "constant", "lr": 0.05}}
CLOSE = {"augmentation": {"name": "standard", "crop_scale": [0.9, 1.0]}}  # needs fewer pixels than there are


def one_stage(fields: Fields, **job: Any) -> Fields:
    """A job's fields with one stage that has these."""
    return {"stages": [{"name": "all", "epochs": 2, "lr": RATE, **fields}], **job}


def with_stage(before: Fields, after: Fields) -> Case:
    """A case about a stage's fields."""
    return one_stage(before), one_stage(after)


def of_schedule(fields: Fields, **changes: Any) -> dict[str, Case]:
    """A case for each change of a schedule's fields."""

    def spec(schedule: Fields) -> Fields:
        return one_stage({"lr": {"schedule": schedule}, "epochs": 3})

    return {key: (spec(fields), spec({**fields, key: value})) for key, value in changes.items()}


def of_optimizer(fields: Fields, **changes: Any) -> dict[str, Case]:
    """A case for each change of an optimizer's fields."""
    decayed = {**fields, "weight_decay": 0.3}
    cases = {
        key: with_stage({"optimizer": fields}, {"optimizer": {**fields, key: value}})
        for key, value in {"weight_decay": 0.5, **changes}.items()
    }
    spared = {**decayed, "decay_norms_and_biases": False}
    return cases | {"decay_norms_and_biases": with_stage({"optimizer": decayed}, {"optimizer": spared})}


def of_augmentation(fields: Fields, **changes: Any) -> dict[str, Case]:
    """A case for each change of an augmentation's fields."""
    return {
        key: with_stage({"augmentation": fields}, {"augmentation": {**fields, key: value}})
        for key, value in changes.items()
    }


def of_objective(fields: Fields, **changes: Any) -> dict[str, Case]:
    """A case for each change of an objective's fields."""
    return {
        key: ({"objective": fields}, {"objective": {**fields, key: value}}) for key, value in changes.items()
    }


def of_recipe(fields: Fields, changes: Fields, **job: Any) -> dict[str, Case]:
    """A case for each change of a recipe's fields."""
    return {
        key: ({"recipe": fields, **job}, {"recipe": {**fields, key: value}, **job})
        for key, value in changes.items()
    }


BETAS = [0.5, 0.6]
CROPS = [0.9, 1.0]
WEIGHTS = {"name": "tiny", "weights": {"file": "one.safetensors"}}
TRIPLET = {
    "name": "triplet",
    "classes_per_batch": 2,
    "images_per_class": 2,
    "embedding_size": 6,
    "margin": 0.9,
}
TRIPLET_JOB = {"objective": TRIPLET}
TWO = [
    {"name": "one", "epochs": 3, "lr": {"schedule": {"name": "list", "values": [0.05, 30.0, 30.0]}}},
    {"name": "two", "epochs": 1, "lr": RATE},
]
STOPPING = {"lr": {"schedule": {"name": "list", "values": [0.05, 30.0, 30.0, 0.05, 0.05, 0.05]}}, "epochs": 6}
# Steps so small that the loss falls in every epoch and the accuracy stands still.
STILL = {"lr": {"schedule": {"name": "constant", "lr": 1e-6}}, "epochs": 6}
RANGE = {"start_lr": 1e-3, "end_lr": 1.0, "steps": 12}
FROZEN = {"freeze": {"policy": "before", "module": "body"}}
# Before training, BatchNorm changes next to nothing, and folding it neither.
THEN_THE_HEAD = [
    {"name": "all", "epochs": 1, "lr": RATE},
    {"name": "head", "epochs": 1, "lr": RATE, "freeze": {"policy": "backbone"}},
]
DRAWN = {**FROZEN, "augmentation": "standard"}

CASES: dict[str, dict[str, Case]] = {
    "Adam": of_optimizer({"name": "adam"}, betas=BETAS, eps=0.1),
    "AdamW": of_optimizer({"name": "adamw"}, betas=BETAS, eps=0.1),
    "BackboneSpec": {
        "name": ({}, {"backbone": {"name": "with_auxiliary", "weights": None}}),
        "weights": ({}, {"backbone": WEIGHTS}),
    },
    "BinaryCrossEntropy": of_objective({"name": "binary_cross_entropy"}, class_weights="balanced"),
    "CheckpointSpec": {
        "keep_last": ({}, {"checkpoints": {"keep_last": 3}}),
        "keep_best": ({}, {"checkpoints": {"keep_best": 3}}),
        "metric": ({}, {"checkpoints": {"metric": "val_loss"}}),
        "weights": (
            one_stage({"ema": {}}, checkpoints={"weights": "raw"}),
            one_stage({"ema": {}}, checkpoints={"weights": "ema"}),
        ),
        "every_steps": ({}, {"checkpoints": {"every_steps": 2}}),
    },
    "Constant": of_schedule({"name": "constant", "lr": 0.05}, lr=0.02),
    "Cosine": of_schedule({"name": "cosine", "lr": 0.05, "end_lr": 0.0}, lr=0.02, end_lr=0.01),
    "CrossEntropy": of_objective({"name": "cross_entropy"}, label_smoothing=0.2, class_weights="balanced"),
    "CutMix": {"alpha": with_stage({"mix": "cutmix"}, {"mix": {"name": "cutmix", "alpha": 0.1}})},
    "DatasetSpec": {
        "path": ({}, {"dataset": {"path": "loose"}}),
        "val_fraction": (
            {"dataset": {"path": "loose"}},
            {"dataset": {"path": "loose", "val_fraction": 0.5}},
        ),
        "on_problem": (
            {"dataset": {"path": "copied"}},
            {"dataset": {"path": "copied", "on_problem": "skip"}},
        ),
    },
    "EarlyStopping": {
        "metric": with_stage(
            {**STILL, "early_stopping": {"metric": "val_loss", "patience": 1}},
            {**STILL, "early_stopping": {"metric": "val_accuracy", "patience": 1}},
        ),
        "patience": with_stage(
            {**STOPPING, "early_stopping": {"patience": 1}}, {**STOPPING, "early_stopping": {"patience": 3}}
        ),
    },
    "Ema": {"decay": with_stage({"ema": {}}, {"ema": {"decay": 0.5}})},
    "Exponential": of_schedule({"name": "exponential", "lr": 0.05, "gamma": 0.9}, lr=0.02, gamma=0.5),
    "FileWeights": {
        "file": ({"backbone": WEIGHTS}, {"backbone": {**WEIGHTS, "weights": {"file": "two.safetensors"}}})
    },
    "Focal": of_objective({"name": "focal"}, gamma=0.5, class_weights="balanced"),
    "FreezeBefore": {
        "module": with_stage(FROZEN, {"freeze": {"policy": "before", "module": "body.1"}}),
    },
    "FreezeExcept": {
        "modules": with_stage(
            {"freeze": {"policy": "except", "modules": ["head"]}},
            {"freeze": {"policy": "except", "modules": ["head", "body.*"]}},
        )
    },
    "FreezeModules": {
        "modules": with_stage(
            {"freeze": {"policy": "modules", "modules": ["stem"]}},
            {"freeze": {"policy": "modules", "modules": ["body"]}},
        )
    },
    "Gradual": of_recipe(
        {"name": "gradual", "head_epochs": 1, "block_epochs": 1},
        {
            "head_epochs": 2,
            "block_epochs": 2,
            "head_lr": 0.5,
            "lr": 0.1,
            "most_stages": 1,
            "augmentation": "none",
        },
    ),
    "GroupFactor": {
        "modules": with_stage(
            {"lr": {**RATE, "factors": [{"modules": ["head"], "factor": 3.0}]}},
            {"lr": {**RATE, "factors": [{"modules": ["stem"], "factor": 3.0}]}},
        ),
        "factor": with_stage(
            {"lr": {**RATE, "factors": [{"modules": ["head"], "factor": 3.0}]}},
            {"lr": {**RATE, "factors": [{"modules": ["head"], "factor": 2.0}]}},
        ),
    },
    "HeadSpec": {
        "dropout": ({}, {"head": {"dropout": 0.5}}),
        "keep": ({"backbone": WEIGHTS}, {"backbone": WEIGHTS, "head": {"keep": "never"}}),
    },
    "JobSpec": {
        "dataset": ({}, {"dataset": {"path": "loose"}}),
        "backbone": ({}, {"backbone": WEIGHTS}),
        "head": ({}, {"head": {"dropout": 0.5}}),
        "fold_batch_norm": (
            {"stages": THEN_THE_HEAD, "precision": "bf16"},
            {"stages": THEN_THE_HEAD, "precision": "bf16", "fold_batch_norm": False},
        ),
        "objective": ({}, {"objective": {"name": "focal"}}),
        "recipe": (
            {"recipe": {"name": "joint", "epochs": 1}},
            {"recipe": {"name": "linear_probe", "epochs": 1}},
        ),
        "stages": ({}, {"stages": TWO}),
        "batch_size": ({}, {"batch_size": 5}),
        "image_size": ({}, {"image_size": 24}),
        "preprocessing": ({}, {"preprocessing": {"eval_resize": 30}}),
        "seed": ({}, {"seed": 1}),
        "precision": ({}, {"precision": "bf16"}),
        "compile": ({}, {"compile": "off"}),
        "checkpoints": ({}, {"checkpoints": {"keep_last": 3}}),
        "on_oom": ({}, {"on_oom": "halve_batch"}),
        "range_test": ({}, {"range_test": RANGE}),
    },
    "Joint": of_recipe(
        {"name": "joint", "epochs": 1}, {"epochs": 2, "lr": 0.01, "head_factor": 3.0, "augmentation": "none"}
    ),
    "Lamb": of_optimizer({"name": "lamb"}, betas=BETAS, eps=0.1),
    "Linear": of_schedule({"name": "linear", "lr": 0.05, "end_lr": 0.0}, lr=0.02, end_lr=0.01),
    "LinearProbe": of_recipe({"name": "linear_probe", "epochs": 2}, {"epochs": 3, "lr": 0.2}),
    "Lion": of_optimizer({"name": "lion"}, betas=[0.1, 0.2]),
    "Listed": of_schedule({"name": "list", "values": [0.05, 0.05, 0.05]}, values=[0.05, 0.02, 0.02]),
    "Logspace": of_schedule({"name": "logspace", "start": -1.0, "stop": -2.0}, start=-1.5, stop=-3.0, num=20),
    "LrPlan": {
        "schedule": with_stage({}, {"lr": {"schedule": {"name": "cosine", "lr": 0.05, "end_lr": 0.0}}}),
        "factors": with_stage({}, {"lr": {**RATE, "factors": [{"modules": ["head"], "factor": 3.0}]}}),
        "default_factor": with_stage({}, {"lr": {**RATE, "default_factor": 0.5}}),
        "layer_decay": with_stage({}, {"lr": {**RATE, "layer_decay": 0.5}}),
        "warmup_epochs": with_stage({}, {"lr": {**RATE, "warmup_epochs": 1.0}}),
    },
    "Mixup": {
        "alpha": with_stage({"mix": "mixup"}, {"mix": {"name": "mixup", "alpha": 5.0}}),
    },
    "MultiStep": of_schedule(
        {"name": "multistep", "lr": 0.05, "milestones": [1], "gamma": 0.1},
        lr=0.02,
        milestones=[2],
        gamma=0.5,
    ),
    "OneCycle": of_schedule(
        {"name": "one_cycle", "max_lr": 0.05}, max_lr=0.02, pct_start=0.6, div=5.0, final_div=2.0
    ),
    "Polynomial": of_schedule(
        {"name": "polynomial", "lr": 0.05, "end_lr": 0.0, "power": 2.0}, lr=0.02, end_lr=0.01, power=3.0
    ),
    "PreprocessingSpec": {
        "train_size": ({}, {"preprocessing": {"train_size": 12}}),
        "eval_resize": ({}, {"preprocessing": {"eval_resize": 30}}),
        "stored": (one_stage(CLOSE), one_stage(CLOSE, preprocessing={"stored": "original"})),
    },
    "RandAugment": of_augmentation({"name": "randaugment"}, crop_scale=CROPS, operations=5, magnitude=25),
    "RangeTest": {
        key: ({"range_test": RANGE}, {"range_test": {**RANGE, key: value}})
        for key, value in {"start_lr": 1e-2, "end_lr": 10.0, "steps": 15}.items()
    },
    "RmsProp": of_optimizer({"name": "rmsprop"}, alpha=0.5, eps=0.1, momentum=0.5, centered=True),
    "Sgd": of_optimizer({"name": "sgd"}, momentum=0.5, dampening=0.4, nesterov=True),
    "StageSpec": {
        "name": with_stage({}, {"name": "everything"}),
        "epochs": with_stage({}, {"epochs": 3}),
        "freeze": with_stage({}, FROZEN),
        "batch_norm": with_stage(FROZEN, {**FROZEN, "batch_norm": "update"}),
        "optimizer": with_stage({}, {"optimizer": {"name": "adam"}}),
        "lr": with_stage({}, {"lr": {"schedule": {"name": "constant", "lr": 0.02}}}),
        "augmentation": with_stage({}, {"augmentation": "light"}),
        "mix": with_stage({}, {"mix": "mixup"}),
        "sampler": with_stage({}, {"sampler": "balanced"}),
        "accumulate": with_stage({}, {"accumulate": 2}),
        "ema": with_stage({}, {"ema": {"decay": 0.5}}),
        "early_stopping": with_stage(STOPPING, {**STOPPING, "early_stopping": {"patience": 1}}),
        "restore": ({"stages": TWO}, {"stages": [{**TWO[0], "restore": "best"}, TWO[1]]}),
        "max_grad_norm": with_stage({}, {"max_grad_norm": 0.01}),
        "gradient_checkpointing": with_stage({}, {"gradient_checkpointing": True}),
        "features_once": with_stage(FROZEN, {**FROZEN, "features_once": False}),
        "feature_views": with_stage(DRAWN, {**DRAWN, "feature_views": 1}),
    },
    "Standard": of_augmentation({"name": "standard"}, crop_scale=CROPS),
    "Step": of_schedule({"name": "step", "lr": 0.05, "every": 1, "gamma": 0.1}, lr=0.02, every=2, gamma=0.5),
    "Trivial": of_augmentation({"name": "trivial"}, crop_scale=CROPS),
    "Triplet": of_objective(
        TRIPLET,
        margin=0.1,
        mining="hard",
        classes_per_batch=3,
        images_per_class=3,
        embedding_size=None,
        normalize=False,
    ),
    "TripletRecipe": of_recipe(
        {"name": "triplet", "epochs": 4, "lr": 0.05},
        {"epochs": 5, "lr": 0.02, "drops": [[0.25, 0.5]], "augmentation": "none"},
        objective=TRIPLET,
    ),
    "TwoStage": of_recipe(
        {"name": "two_stage", "head_epochs": 1, "full_epochs": 1},
        {"head_epochs": 2, "full_epochs": 2, "head_lr": 0.5, "full_lr": 0.1, "augmentation": "none"},
    ),
}
ELSEWHERE = {
    "JobSpec": {"name", "metadata", "priority", "max_attempts"},  # the server's: tests/app, tests/worker
    "JobWeights": {"job", "checkpoint"},  # looked up by the server: tests/acceptance/test_weights.py
}
# The same bytes by design, and the plan says it. What "on" does to a run: tests/finetune/test_compiling.py;
# what is saved within epochs: tests/finetune/test_within_epochs.py; what out of memory leads to:
# tests/reliability/test_failures.py.
SHOWN = {
    ("StageSpec", "gradient_checkpointing"),
    ("StageSpec", "features_once"),
    ("JobSpec", "compile"),
    ("JobSpec", "on_oom"),
    ("CheckpointSpec", "every_steps"),
}


def parts(base: type[Part] = Part) -> Iterator[type[Part]]:
    """The parts that a spec is made of: the classes that have none below them, and the job."""
    for part in base.__subclasses__():
        if part is not ResolvedSpec:
            below = [child for child in part.__subclasses__() if child is not ResolvedSpec]
            yield from parts(part) if below else [part]


def fields_of(part: type[Part]) -> set[str]:
    """The fields of a part but for the one that tells it from its siblings."""
    return {
        name
        for name, field in part.model_fields.items()
        if not (get_origin(field.annotation) is Literal and len(field.annotation.__args__) == 1)  # type: ignore[union-attr]  # it has an annotation
    }


def test_every_field_of_every_part_has_a_case():
    expected = {(part.__name__, field) for part in parts() for field in fields_of(part)}
    have = {(part, field) for part, cases in CASES.items() for field in cases}
    have |= {(part, field) for part, fields in ELSEWHERE.items() for field in fields}
    assert JobSpec in set(parts())
    assert have == expected


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, pictures):
    """A data root with uneven classes, so that what balances them counts."""
    root = tmp_path_factory.mktemp("uneven")
    for hue, count in (("blue", 9), ("green", 5), ("red", 4)):
        pictures(root / "hues" / "train" / hue, hue, count)
        pictures(root / "hues" / "val" / hue, hue, 3)
        pictures(root / "loose" / hue, hue, 6)
    shutil.copytree(root / "hues", root / "copied")
    shutil.copy(root / "copied" / "train" / "red" / "00.png", root / "copied" / "val" / "red" / "copy.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory, registry):
    """Two files of weights of the tiny network."""
    folder = tmp_path_factory.mktemp("weights")
    preprocessing = registry.find("tiny").preprocessing.to_json()
    metadata = {"classes": json.dumps(["blue", "green", "red"]), "preprocessing": json.dumps(preprocessing)}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        state = registry.find("tiny").make(3, 16).state_dict()
        safetensors.torch.save_file(state, folder / f"{name}.safetensors", metadata)
    return folder


@pytest.fixture(scope="module")
def seen():
    """What came of specs that several cases start from."""
    return {}


@pytest.fixture
def outcome(run, job, uneven, weights, seen, tmp_path):
    """What a spec comes to: its plan, and all that its run leaves."""

    def of(fields):
        key = json.dumps(fields, sort_keys=True)
        if key not in seen:
            spec = {**job(), **one_stage({}), **fields}
            if "recipe" in spec:
                del spec["stages"]
            folder = tmp_path / str(len(seen))
            events = run(spec, folder, data_dir=uneven, weights_dir=weights)
            plan = next(event.plan for event in events if isinstance(event, RunStarted))
            seen[key] = plan, list(left_by(events))
        return seen[key]

    def left_by(events: list[Any]) -> Iterator[Any]:
        for event in events:
            if isinstance(event, EpochEnded):
                record, file = event.record, event.checkpoint.weights
                yield record.stage, record.lr, record.train, record.val, record.val_ema, event.checkpoint.best
                yield {n: t.tolist() for n, t in load_file(file).items()} if file.is_file() else "let go"
            elif isinstance(event, RunEnded):
                yield event.result

    return of


EVERY = [(part, field) for part, cases in CASES.items() for field in cases]


@pytest.mark.parametrize(("part", "field"), EVERY, ids=[f"{part}.{field}" for part, field in EVERY])
def test_changing_it_changes_the_run(outcome, part, field):
    before, after = (outcome(fields) for fields in CASES[part][field])
    if (part, field) in SHOWN:
        assert before[0] != after[0]
        assert before[1] == after[1]
    else:
        assert before[1] != after[1]


CHOICES: dict[str, list[Any]] = {
    "augmentation": ["none", "light", "standard", "trivial", "randaugment"],
    "mix": [None, "mixup", "cutmix"],
    "sampler": ["shuffle", "balanced"],
    "optimizer": [{"name": name} for name in ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion")],
    "freeze": [
        {"policy": "none"},
        {"policy": "backbone"},
        {"policy": "before", "module": "body"},
        {"policy": "modules", "modules": ["body"]},
        {"policy": "except", "modules": ["head", "stem"]},
    ],
}


@pytest.mark.parametrize("field", CHOICES)
def test_each_choice_of_a_stage_gives_another_run(outcome, field):
    runs = [outcome(one_stage({field: choice}))[1] for choice in CHOICES[field]]
    assert all(a != b for i, a in enumerate(runs) for b in runs[:i])


@pytest.mark.parametrize("names", [["cross_entropy", "focal", "binary_cross_entropy"]])
def test_each_objective_gives_another_run(outcome, names):
    runs = [outcome({"objective": {"name": name}})[1] for name in names]
    assert all(a != b for i, a in enumerate(runs) for b in runs[:i])
