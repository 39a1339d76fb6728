import itertools

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


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 10])
def test_triplet_begins_with_its_rate_however_short_it_is(epochs):
    (stage,) = resolved(recipe={"name": "triplet", "epochs": epochs, "lr": 0.1}).stages
    assert learning_rate(stage, 3, 0, 0) == pytest.approx(0.1)
    assert stage.lr.schedule.length == epochs


def test_triplet_is_planned_quickly_however_long_it_is():
    (stage,) = resolved(recipe={"name": "triplet", "epochs": 10_000, "lr": 0.1}).stages
    assert len(stage.lr.schedule.values) == 3
    assert learning_rate(stage, 3, 9_999, 0) == pytest.approx(0.001)


def test_linear_probe_trains_the_head_alone_on_plain_views():
    (stage,) = resolved(recipe={"name": "linear_probe", "epochs": 5, "lr": 0.2}).stages
    assert (stage.freeze.policy, stage.augmentation.name, stage.epochs) == ("backbone", "none", 5)
    assert learning_rate(stage, 3, 4, 2) == 0.2


def gradual(blocks, **fields):
    body = {
        "dataset": {"path": "a"},
        "backbone": {"name": "resnet18"},
        "recipe": {"name": "gradual", **fields},
    }
    return resolve(JobSpec.model_validate(body), lambda: blocks).stages


def test_gradual_thaws_a_block_a_stage_from_the_head_down():
    stages = gradual(["stem", "one", "two", "fc"], head_epochs=7, block_epochs=2, head_lr=0.1)
    assert [stage.name for stage in stages] == ["head", "from two", "from one", "all"]
    assert [stage.epochs for stage in stages] == [7, 2, 2, 2]
    boundaries = [stage.freeze.model_dump() for stage in stages]
    assert boundaries == [
        {"policy": "backbone"},
        {"policy": "before", "module": "two"},
        {"policy": "before", "module": "one"},
        {"policy": "none"},
    ]


def test_graduals_rate_falls_to_zero_in_one_line_over_all_thawed_stages():
    stages = gradual(["stem", "one", "two", "fc"], block_epochs=2, head_lr=0.1, lr=0.03)
    rates = [
        learning_rate(stage, 4, epoch, step) for stage in stages[1:] for epoch in (0, 1) for step in range(4)
    ]
    assert rates == pytest.approx([0.03 * (1 - n / 24) for n in range(24)])
    assert learning_rate(stages[0], 4, 0, 0) == 0.1


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9, None])
def test_gradual_in_fewer_stages_thaws_equally_many_blocks_in_each_and_at_last_all(most):
    blocks = [f"b{n}" for n in range(9)] + ["fc"]
    stages = gradual(blocks, most_stages=most)[1:]
    assert len(stages) == (most or 9)
    assert stages[-1].freeze.policy == "none"
    firsts = [9, *(blocks.index(s.freeze.module) for s in stages[:-1]), 0]
    sizes = [before - after for before, after in itertools.pairwise(firsts)]
    assert max(sizes) - min(sizes) <= 1


def test_gradual_has_at_most_as_many_stages_as_a_job_may_have():
    assert len(gradual([f"b{n}" for n in range(200)])) == 64


@pytest.mark.parametrize("name", ["two_stage", "joint", "linear_probe", "gradual", "triplet"])
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
