import pytest

from finetune.lr import learning_rate
from finetune.recipes import resolve
from finetune.spec import JobSpec


def resolved(**fields):
    body = {"dataset": {"path": "a"}, "backbone": {"name": "resnet18"}, **fields}
    return resolve(JobSpec.model_validate(body), lambda: ["stem", "body", "head"])


def stage(**fields):
    return {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}, **fields}


def test_two_stage_is_the_head_at_the_larger_rate_then_everything_at_the_smaller_one():
    spec = resolved(
        recipe={"name": "two_stage", "head_epochs": 3, "full_epochs": 4, "head_lr": 0.1, "full_lr": 0.01}
    )
    head, full = spec.stages
    assert (head.name, head.epochs, head.freeze.policy, head.augmentation.name) == (
        "head",
        3,
        "backbone",
        "none",
    )
    assert (full.name, full.epochs, full.freeze.policy, full.augmentation.name) == (
        "all",
        4,
        "none",
        "standard",
    )
    assert learning_rate(head, 5, 2, 4) == 0.1
    assert [learning_rate(full, 5, epoch, 0) for epoch in range(4)] == pytest.approx(
        [0.01, 0.0075, 0.005, 0.0025]
    )


def test_joint_is_one_stage_in_which_the_heads_rate_is_larger():
    (stage,) = resolved(recipe={"name": "joint", "epochs": 2, "lr": 0.01, "head_factor": 7}).stages
    assert [(f.modules, f.factor) for f in stage.lr.factors] == [(["head"], 7)]
    assert stage.freeze.policy == "none"


def test_triplet_is_one_stage_at_a_stepped_rate_with_its_objective():
    spec = resolved(recipe={"name": "triplet", "epochs": 8, "lr": 0.001, "drops": [[0.5, 0.1], [0.75, 0.01]]})
    (stage,) = spec.stages
    assert spec.objective.name == "triplet"
    expected = [0.001] * 4 + [0.0001] * 2 + [0.00001] * 2
    assert [learning_rate(stage, 3, epoch, 0) for epoch in range(8)] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["two_stage", "joint", "triplet"])
def test_a_recipe_has_defaults_and_resolving_twice_changes_nothing(name):
    spec = resolved(recipe={"name": name})
    assert spec.recipe is None
    assert "recipe" not in spec.model_dump(mode="json")
    assert resolve(spec, list) == spec


def test_stages_without_a_name_get_one_that_is_free():
    names = ["stage-1", "stage-1-2", None, "stage-4", None, "stage-3"]
    spec = resolved(stages=[stage(name=name) for name in names])
    given = [stage.name for stage in spec.stages]
    assert [n for n, was in zip(given, names, strict=True) if was] == [n for n in names if n]
    assert len(set(given)) == len(given)
    assert resolved(stages=[stage(), stage()]).stages[1].name == "stage-2"
