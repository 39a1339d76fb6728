import copy
import json
import math
import re

import pytest

from finetune.recipes import resolve
from finetune.spec import JobSpec, find_problems

# The example of the design, as it stands there.
EXAMPLE = """
{
  "name": "ants and bees",                     // optional, 1..200 characters
  "metadata": {"team": "zoo"},                 // optional, at most 16 pairs, key ≤ 64, value ≤ 512
  "dataset": {
    "path": "hymenoptera",                     // below the operator's data root
    "val_fraction": 0.2                        // only where the dataset has no val split: stratified by class, seeded
  },
  "backbone": {
    "name": "resnet18",                        // any torchvision classification model
    "weights": "DEFAULT"                       // a torchvision weights name | null (random)
  },
  "head": {"dropout": 0.0, "keep": "auto"},    // auto: kept when the class names are the same, replaced otherwise
  "objective": {"name": "cross_entropy", "label_smoothing": 0.0, "class_weights": "none"},   // or "balanced"
  "stages": [
    {
      "name": "head",
      "epochs": 3,
      "freeze": {"policy": "backbone"},
      "batch_norm": "eval",                    // frozen modules' BatchNorm: "eval" (default, nothing moves) | "update"
      "optimizer": {"name": "sgd", "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": false},
      "lr": {"schedule": {"name": "constant", "lr": 0.01}},
      "augmentation": "none"
    },
    {
      "name": "all",
      "epochs": 30,
      "freeze": {"policy": "none"},
      "optimizer": {"name": "sgd", "momentum": 0.9},
      "lr": {
        "schedule": {"name": "list", "values": [[0.01, 10], [0.005, 10], [0.0025, 10]]},
        "factors": [{"modules": ["fc"], "factor": 10.0}],
        "default_factor": 0.9
      },
      "augmentation": {"name": "standard", "crop_scale": [0.35, 1.0]},   // or just "standard"
      "early_stopping": {"metric": "val_loss", "patience": 5},
      "max_grad_norm": null
    }
  ],
  "batch_size": 32, "image_size": null, "seed": 0, "precision": "auto",
  "checkpoints": {"keep_last": 1, "keep_best": 1, "metric": "val_accuracy"},
  "priority": 0, "max_attempts": 3
}
"""  # noqa: E501  # as it stands there


def example():
    return json.loads(re.sub(r"\s//.*", "", EXAMPLE))


def changed(path, value):
    body = example()
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = body
    for part in parents:
        place = place[part]
    place[last] = value
    return body


def recipe_body(recipe):
    body = example()
    del body["stages"]
    return {**body, "recipe": recipe}


def test_the_example_of_the_design_parses():
    spec = JobSpec.model_validate(example())
    assert spec.stages is not None
    assert [stage.epochs for stage in spec.stages] == [3, 30]
    assert spec.model_dump(mode="json", exclude={"recipe", "objective"})["batch_size"] == 32
    assert find_problems(example()) == []


def test_what_is_left_out_has_the_documented_default():
    short = {
        "dataset": {"path": "a"},
        "backbone": {"name": "resnet18"},
        "stages": [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}],
    }
    spec = resolve(JobSpec.model_validate(short), lambda: ["stem", "body", "head"]).model_dump(mode="json")
    assert spec["backbone"]["weights"] == "DEFAULT"
    assert spec["head"] == {"dropout": 0.0, "keep": "auto"}
    assert spec["objective"] == {"name": "cross_entropy", "label_smoothing": 0.0, "class_weights": "none"}
    assert spec["checkpoints"] == {
        "keep_last": 1,
        "keep_best": 1,
        "metric": "val_accuracy",
        "weights": "raw",
        "every_steps": None,
    }
    assert spec["on_oom"] == "fail"
    assert (spec["batch_size"], spec["seed"], spec["precision"]) == (32, 0, "auto")
    assert (spec["priority"], spec["max_attempts"], spec["image_size"]) == (0, 3, None)
    (stage,) = spec["stages"]
    assert (stage["freeze"], stage["batch_norm"]) == ({"policy": "none"}, "eval")
    assert stage["lr"]["default_factor"] == 1.0
    assert stage["augmentation"] == {"name": "none"}


WEIGHTS = [
    None,
    "IMAGENET1K_V1",
    {"file": "sub/x.safetensors"},
    {"job": "job_1"},
    {"job": "job_1", "checkpoint": "last"},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_each_kind_of_weights_is_taken(weights):
    assert find_problems(changed("backbone.weights", weights)) == []


NUMBERS = [
    "batch_size",
    "image_size",
    "seed",
    "priority",
    "max_attempts",
    "dataset.val_fraction",
    "head.dropout",
    "objective.label_smoothing",
    "checkpoints.keep_last",
    "checkpoints.every_steps",
    "stages.0.epochs",
    "stages.0.optimizer.momentum",
    "stages.0.optimizer.weight_decay",
    "stages.0.lr.schedule.lr",
    "stages.1.lr.default_factor",
    "stages.1.lr.factors.0.factor",
    "stages.1.lr.schedule.values.0.0",
    "stages.1.lr.schedule.values.0.1",
    "stages.1.augmentation.crop_scale.0",
    "stages.1.early_stopping.patience",
    "stages.1.max_grad_norm",
]


@pytest.mark.parametrize("value", ["3", True, math.nan, math.inf, -math.inf, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_is_a_finite_json_number(path, value):
    problems = find_problems(changed(path, value))
    assert problems
    assert all(str(problem.param).startswith(path) for problem in problems)


REFUSED = [
    # path, value, the problem's path, a word of its message
    ("nam", "x", "nam", "'name'"),
    ("dataset.pth", "x", "dataset.pth", "'path'"),
    ("stages.0.lr.schedule.gama", 1, "stages.0.lr.schedule.gama", "gamma"),
    ("stages.0.freeze.modules", ["x"], "stages.0.freeze.modules", "unknown field"),
    ("stages.0.optimizer.nestrov", True, "stages.0.optimizer.nestrov", "nesterov"),
    ("name", "", "name", "at least 1"),
    ("name", "x" * 201, "name", "at most 200"),
    ("name", 3, "name", "string"),
    ("name", "nul\x00", "name", "NUL"),
    ("metadata", {str(n): "" for n in range(17)}, "metadata", "at most 16"),
    ("metadata", {"team": "x" * 513}, "metadata.team", "at most 512"),
    ("metadata", {"team": 3}, "metadata.team", "string"),
    ("dataset", None, "dataset", "object"),
    ("dataset.path", "", "dataset.path", "at least 1"),
    ("dataset.val_fraction", 0, "dataset.val_fraction", "greater than 0"),
    ("dataset.val_fraction", 1, "dataset.val_fraction", "less than 1"),
    ("backbone.weights", 3, "backbone.weights", "object"),
    ("backbone.weights", {}, "backbone.weights.file", "required"),
    ("backbone.weights", {"job": "j", "file": "f"}, "backbone.weights.file", "unknown field"),
    ("head.dropout", 1.0, "head.dropout", "less than 1"),
    ("head.keep", "always", "head.keep", "never"),
    ("objective.name", "cross_entropi", "objective", "'cross_entropy'"),
    ("objective.label_smoothing", -0.1, "objective.label_smoothing", "greater"),
    ("objective", {"name": "triplet", "margin": 0}, "objective.margin", "greater"),
    ("stages", [], "stages", "at least 1"),
    ("stages", None, "stages", "needs stages"),
    ("stages.0.epochs", 0, "stages.0.epochs", "greater"),
    ("stages.0.epochs", 1.5, "stages.0.epochs", "integer"),
    ("stages.1.name", "head", "stages", "'head' stands twice"),
    ("stages.0.batch_norm", "train", "stages.0.batch_norm", "update"),
    ("stages.0.freeze", {"policy": "backbon"}, "stages.0.freeze", "'backbone'"),
    ("stages.0.freeze", "backbone", "stages.0.freeze", "object"),
    ("stages.0.freeze", {"policy": "before"}, "stages.0.freeze.module", "required"),
    ("stages.0.freeze", {"policy": "except", "modules": []}, "stages.0.freeze.modules", "at least 1"),
    ("stages.0.optimizer.name", "sdg", "stages.0.optimizer", "'sgd'"),
    ("stages.0.optimizer.momentum", -0.1, "stages.0.optimizer.momentum", "greater"),
    ("stages.0.optimizer.momentum", 1, "stages.0.optimizer.momentum", "less"),
    ("stages.0.optimizer.weight_decay", -1e-9, "stages.0.optimizer.weight_decay", "greater"),
    (
        "stages.0.optimizer",
        {"name": "sgd", "momentum": 0, "nesterov": True},
        "stages.0.optimizer.nesterov",
        "needs a momentum",
    ),
    (
        "stages.0.optimizer",
        {"name": "sgd", "momentum": 0.9, "dampening": 0.1, "nesterov": True},
        "stages.0.optimizer.nesterov",
        "no dampening",
    ),
    ("stages.0.optimizer", {"name": "adam", "betas": [0.9]}, "stages.0.optimizer.betas", "at least 2"),
    ("stages.0.optimizer", {"name": "adamw", "betas": [0.9, 1]}, "stages.0.optimizer.betas.1", "less"),
    ("stages.0.lr.schedule", {"name": "cosin", "lr": 1}, "stages.0.lr.schedule", "'cosine'"),
    ("stages.0.lr.schedule", {"name": 3}, "stages.0.lr.schedule", "constant, list"),
    ("stages.0.lr.schedule.lr", -0.1, "stages.0.lr.schedule.lr", "greater"),
    ("stages.1.lr.schedule.values", [[0.01, 10], [0.005, 19]], "stages.1.lr", "29 values for 30 epochs"),
    ("stages.1.lr.schedule.values", [0.1, [0.01, 1.5]], "stages.1.lr.schedule", "whole epochs"),
    ("stages.1.lr.schedule.values", [[0.01, 0]], "stages.1.lr.schedule", "at least 1"),
    ("stages.1.lr.schedule.values", [[0.01, 30, 1]], "stages.1.lr.schedule.values.0", "at most 2"),
    ("stages.1.lr.schedule.values", [-0.1], "stages.1.lr.schedule.values.0", "greater"),
    (
        "stages.1.lr.schedule",
        {"name": "logspace", "start": -2, "stop": -4, "num": 29},
        "stages.1.lr",
        "29 values",
    ),
    (
        "stages.1.lr.schedule",
        {"name": "multistep", "lr": 0.1, "milestones": [5, 5], "gamma": 0.1},
        "stages.1.lr.schedule",
        "ascend",
    ),
    (
        "stages.1.lr.schedule",
        {"name": "step", "lr": 0.1, "every": 0, "gamma": 1},
        "stages.1.lr.schedule.every",
        "greater",
    ),
    (
        "stages.1.lr.schedule",
        {"name": "one_cycle", "max_lr": 0.1, "pct_start": 1.1},
        "stages.1.lr.schedule.pct_start",
        "less",
    ),
    ("stages.1.lr.factors.0.factor", -1, "stages.1.lr.factors.0.factor", "greater"),
    ("stages.1.lr.factors.0.modules", [], "stages.1.lr.factors.0.modules", "at least 1"),
    ("stages.1.lr.layer_decay", 0.9, "stages.1.lr", "layer_decay stands instead of factors"),
    ("stages.0.lr.layer_decay", 1.5, "stages.0.lr.layer_decay", "less"),
    ("stages.0.lr.warmup_epochs", 3.5, "stages.0.lr", "longer than the stage"),
    ("stages.0.lr.warmup_epochs", -1, "stages.0.lr.warmup_epochs", "greater"),
    ("stages.0.augmentation", "heavy", "stages.0.augmentation", "known: light, none"),
    ("stages.1.augmentation.crop_scale", [1.0, 0.35], "stages.1.augmentation.crop_scale", "smallest"),
    ("stages.1.augmentation.crop_scale", [0, 1], "stages.1.augmentation.crop_scale.0", "greater"),
    ("stages.1.early_stopping.metric", "train_loss", "stages.1.early_stopping.metric", "val_loss"),
    ("stages.1.early_stopping.patience", 0, "stages.1.early_stopping.patience", "greater"),
    ("stages.1.max_grad_norm", 0, "stages.1.max_grad_norm", "greater"),
    ("batch_size", 0, "batch_size", "greater"),
    ("batch_size", 3.0, "batch_size", "integer"),
    ("image_size", 4, "image_size", "greater"),
    ("seed", -1, "seed", "greater"),
    ("seed", 2**63, "seed", "less"),
    ("precision", "fp8", "precision", "bf16"),
    ("checkpoints.keep_last", 0, "checkpoints.keep_last", "greater"),
    ("checkpoints.metric", "loss", "checkpoints.metric", "val_loss"),
    ("max_attempts", 0, "max_attempts", "greater"),
]


@pytest.mark.parametrize(
    ("path", "value", "param", "word"), REFUSED, ids=[f"{r[0]}={r[1]!s:.30}" for r in REFUSED]
)
def test_it_is_refused_with_the_field_and_a_sentence(path, value, param, word):
    problems = find_problems(changed(path, value))
    assert [problem.param for problem in problems] == [param]
    assert word in problems[0].message


def test_one_cycle_refuses_a_warm_up_of_its_own():
    lr = {"schedule": {"name": "one_cycle", "max_lr": 0.1}, "warmup_epochs": 1}
    (problem,) = find_problems(changed("stages.0.lr", lr))
    assert (problem.param, "warms up by itself" in problem.message) == ("stages.0.lr", True)


@pytest.mark.parametrize("key", ["", "k" * 65])
def test_a_metadata_key_has_1_to_64_characters(key):
    (problem,) = find_problems(changed("metadata", {key: "x"}))
    assert str(problem.param).startswith("metadata")


def test_the_largest_metadata_is_taken():
    assert find_problems(changed("metadata", {f"{n:064d}": "x" * 512 for n in range(16)})) == []


def test_stages_and_a_recipe_together_are_refused():
    body = {**example(), "recipe": {"name": "joint"}}
    (problem,) = find_problems(body)
    assert (problem.param, problem.message) == (
        "stages",
        "a recipe stands instead of stages: give one of the two",
    )


def test_a_recipe_may_stand_instead_of_stages():
    assert find_problems(recipe_body({"name": "two_stage", "head_epochs": 1})) == []


RECIPES_REFUSED = [
    ({"name": "two_stages"}, "recipe", "'two_stage'"),
    ({"name": "two_stage", "head_lr": -1}, "recipe.head_lr", "greater"),
    ({"name": "two_stage", "epochs": 3}, "recipe.epochs", "unknown field"),
    ({"name": "joint", "head_factor": "10"}, "recipe.head_factor", "number"),
    ({"name": "triplet", "drops": [[0.75, 0.1], [0.5, 0.1]]}, "recipe.drops", "ascending"),
    ({"name": "triplet", "drops": [[1.0, 0.1]]}, "recipe.drops", "between 0 and 1"),
    ({"name": "triplet", "lr": 1e5, "drops": [[0.5, 1e5]]}, "recipe.drops", "above 1e+06"),
]


@pytest.mark.parametrize(("recipe", "param", "word"), RECIPES_REFUSED, ids=str)
def test_a_wrong_recipe_is_refused_for_itself_alone(recipe, param, word):
    (problem,) = find_problems(recipe_body(recipe))
    assert problem.param == param
    assert word in problem.message


def test_all_problems_come_at_once_in_the_order_of_the_fields():
    body = example()
    body["name"] = ""
    body["dataset"] = {"path": 3, "val_fraction": 2}
    del body["backbone"]["name"]
    body["stages"][0]["epochs"] = "3"
    body["stages"][0]["optimizer"]["nesterov"] = 1
    body["stages"][1]["lr"]["schedule"]["values"] = [0.1]
    body["stages"][1]["max_grad_norm"] = -1
    body["seed"] = True
    body["colour"] = "red"
    assert [problem.param for problem in find_problems(body)] == [
        "name",
        "dataset.path",
        "dataset.val_fraction",
        "backbone.name",
        "stages.0.epochs",
        "stages.0.optimizer.nesterov",
        "stages.1.lr",
        "stages.1.max_grad_norm",
        "seed",
        "colour",
    ]


@pytest.mark.parametrize("body", [None, 3, "x", [], [example()], True], ids=str)
def test_a_body_that_is_no_object_has_one_problem(body):
    (problem,) = find_problems(body)
    assert problem.message == "should be a JSON object"
    assert problem.param is None


def test_an_empty_object_lacks_what_is_required():
    assert {(p.param, p.message) for p in find_problems({})} == {
        ("dataset", "is required"),
        ("backbone", "is required"),
        ("stages", "a job needs stages, or a recipe that stands for them"),
    }


def test_validation_leaves_the_body_as_it_was():
    body = example()
    before = copy.deepcopy(body)
    find_problems(body)
    assert body == before


def test_a_long_value_is_shown_shortened():
    (problem,) = find_problems(changed("precision", "x" * 10_000))
    assert len(problem.message) < 200
