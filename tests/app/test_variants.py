from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.variants import NOT_OF_A_BASE, draft
from finetune.recipes import resolve
from finetune.spec import JobSpec, find_problems
from finetune.spec.combinations import combination_problems

SPEC: dict[str, Any] = {"dataset": {"path": "shapes"}, "backbone": {"name": "resnet18"}, "batch_size": 16}
TWO_STAGE: dict[str, Any] = {
    "name": "two_stage",
    "patch": {"recipe": {"name": "two_stage", "head_epochs": 2}},
}
JOINT: dict[str, Any] = {"name": "joint", "patch": {"recipe": {"name": "joint"}}}
BODY: dict[str, Any] = {"name": "which", "spec": SPEC, "variants": [TWO_STAGE, JOINT], "seeds": [0, 7]}


class Catalog:
    """Judges specs without a look at data or networks; every network has three blocks."""

    def resolve(self, spec):
        return resolve(spec, lambda: ["stem", "body", "head"])

    def check(self, body):
        own = find_problems(body)
        if own:
            return own
        resolved = self.resolve(JobSpec.model_validate(body))
        return combination_problems(resolved, lambda index: f"stages.{index}")

    def plan(self, spec):
        return None


CATALOG = Catalog()


def problems(catalog=CATALOG, **changes):
    with pytest.raises(Invalid) as caught:
        draft(BODY | changes, catalog)
    details = [(detail["param"], detail["message"]) for detail in caught.value.body["error"]["details"]]
    assert len(details) == len(set(details)), "each problem is said once"
    return dict(details)


def variants(*patches):
    return [{"name": f"v{number}", "patch": patch} for number, patch in enumerate(patches)]


def test_each_variant_is_trained_with_each_seed_seed_by_seed():
    sound = draft(BODY | {"spec": SPEC | {"priority": 3, "metadata": {"team": "zoo"}}}, CATALOG)
    trials = sound.trials("which")
    assert [(trial.name, trial.variant, trial.seed) for trial in trials] == [
        ("which/two_stage/0", "two_stage", 0),
        ("which/joint/0", "joint", 0),
        ("which/two_stage/7", "two_stage", 7),
        ("which/joint/7", "joint", 7),
    ]
    for trial in trials:
        assert find_problems(trial.spec) == []
        assert (trial.spec["seed"], trial.resolved_spec["seed"]) == (trial.seed, trial.seed)
        assert trial.spec["name"] == trial.resolved_spec["name"] == trial.name
        assert (trial.priority, trial.metadata) == (3, {"team": "zoo"})
        assert trial.resolved_spec["batch_size"] == 16
    assert [len(trial.resolved_spec["stages"]) for trial in trials] == [2, 1, 2, 1]
    assert sound.metric == "val_accuracy"


def test_three_seeds_are_taken_where_none_are_said():
    body = {key: value for key, value in BODY.items() if key != "seeds"}
    assert draft(body, CATALOG).body.seeds == [0, 1, 2]


def test_a_jobs_name_is_never_longer_than_a_name_may_be():
    long = [{"name": "v" * 100, "patch": JOINT["patch"]}]
    (trial,) = draft(BODY | {"variants": long, "seeds": [2**63 - 1]}, CATALOG).trials("n" * 200)
    assert len(trial.name) == 200
    assert trial.name.endswith(f"n/{'v' * 100}/{2**63 - 1}")
    assert find_problems(trial.spec) == []


def test_what_is_wrong_in_the_base_is_said_once():
    said = problems(spec=SPEC | {"batch_size": 0, "colour": "red"})
    assert set(said) == {"spec.batch_size", "spec.colour"}


def test_what_is_wrong_in_a_variant_is_said_where_it_stands():
    said = problems(
        variants=[TWO_STAGE, {"name": "x", "patch": {"recipe": {"name": "jont"}}}], spec=SPEC | {"seed": 3}
    )
    assert said["variants.1.patch.recipe"] == "unknown name 'jont'; did you mean 'joint'?"
    assert set(said) == {"variants.1.patch.recipe", "spec.seed"}


def test_an_unknown_field_of_a_patch_is_named_with_the_closest_one():
    said = problems(variants=[TWO_STAGE, {"name": "x", "patch": {**JOINT["patch"], "batchsize": 8}}])
    assert list(said) == ["variants.1.patch.batchsize"]
    assert said["variants.1.patch.batchsize"].startswith("unknown field; did you mean 'batch_size'")


def test_a_base_without_recipe_is_wrong_only_where_a_variant_brings_none():
    assert problems(variants=[TWO_STAGE, *variants({})]) == {
        "spec.stages": "a job needs stages, or a recipe that stands for them"
    }


def test_a_variant_that_repeats_the_bases_mistake_is_told_so_itself():
    said = problems(
        spec=SPEC | {"batch_size": 0}, variants=[TWO_STAGE, *variants({**JOINT["patch"], "batch_size": 0})]
    )
    assert set(said) == {"spec.batch_size", "variants.1.patch.batch_size"}


def test_every_problem_is_said_at_once():
    said = problems(
        name=3,
        colour="red",
        seeds=[1, 1, True],
        spec=SPEC | {"head": {"dropout": 2}},
        variants=[TWO_STAGE, {"name": "two_stage", "patch": ["recipe"]}, {"name": ""}, "joint"],
    )
    assert set(said) == {
        "name",
        "colour",
        "seeds",
        "seeds.2",
        "spec.head.dropout",
        "variants.1.name",
        "variants.1.patch",
        "variants.2.name",
        "variants.2.patch",
        "variants.3",
    }
    assert said["variants.1.patch"] == "a patch is a JSON object with the fields of the spec to change"
    assert said["variants.1.name"] == "variants need different names; 'two_stage' stands twice"
    assert said["seeds"] == "each seed stands once; 1 stands twice"
    assert said["variants.2.patch"] == "is required"
    assert said["variants.3"] == "should be a JSON object"


@pytest.mark.parametrize("field", ["seed", "name", "metadata", "priority", "max_attempts", "range_test"])
def test_a_patch_does_not_set_what_belongs_to_the_experiment(field):
    said = problems(variants=[TWO_STAGE, {"name": "x", "patch": {**JOINT["patch"], field: 1}}])
    assert list(said) == [f"variants.1.patch.{field}"]
    assert said[f"variants.1.patch.{field}"].startswith("a variant cannot change it; ")


@pytest.mark.parametrize("field", sorted(NOT_OF_A_BASE))
def test_a_base_does_not_say_what_the_experiment_says(field):
    assert problems(spec=SPEC | {field: None}) == {f"spec.{field}": NOT_OF_A_BASE[field]}


def test_two_variants_that_are_the_same_run_are_refused():
    again = {"name": "again", "patch": {"recipe": {"name": "two_stage", "head_epochs": 2, "full_epochs": 12}}}
    assert problems(variants=[JOINT, TWO_STAGE, again]) == {
        "variants.2.patch": "gives the same run as variant 'two_stage': there is nothing to compare"
    }


def test_variants_that_choose_by_different_metrics_are_refused():
    by_loss = {"name": "loss", "patch": {**JOINT["patch"], "checkpoints": {"metric": "val_loss"}}}
    assert problems(variants=[TWO_STAGE, by_loss]) == {
        "variants.1.patch": "variant 'loss' chooses its best epoch by val_loss, variant 'two_stage' by "
        "val_accuracy: all variants need the same checkpoints.metric"
    }
    assert problems(variants=[by_loss], metric="val_accuracy") == {
        "variants.0.patch": "variant 'loss' chooses its best epoch by val_loss, the experiment compares "
        "val_accuracy: all variants need the same checkpoints.metric"
    }


def test_a_base_with_another_metric_than_the_experiment_is_told_so_once():
    assert problems(metric="val_loss", spec=SPEC | {"checkpoints": {"metric": "val_accuracy"}}) == {
        "metric": "the spec says another checkpoints.metric; leave one of the two out: all variants need the "
        "same checkpoints.metric"
    }


def test_the_experiments_metric_is_every_jobs_where_the_spec_says_none():
    sound = draft(BODY | {"metric": "val_loss", "spec": SPEC | {"checkpoints": {"keep_last": 2}}}, CATALOG)
    assert sound.metric == "val_loss"
    for trial in sound.trials("x"):
        assert trial.resolved_spec["checkpoints"] == {
            "keep_last": 2,
            "keep_best": 1,
            "metric": "val_loss",
            "weights": "raw",
            "every_steps": None,
        }


def test_a_metric_that_no_run_reports_is_refused_once():
    (message,) = problems(metric="val_f1").values()
    assert "has no val_f1; it has val_accuracy" in message
    assert list(problems(metric="val_f1")) == ["metric"]
    assert list(problems(spec=SPEC | {"checkpoints": {"metric": "val_f1"}})) == ["spec.checkpoints.metric"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"variants": []}, "variants"),
        ({"variants": [JOINT | {"name": f"v{n}"} for n in range(21)]}, "variants"),
        ({"variants": {}}, "variants"),
        ({"seeds": []}, "seeds"),
        ({"seeds": list(range(51))}, "seeds"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"seeds": [2**63]}, "seeds.0"),
        ({"seeds": ["0"]}, "seeds.0"),
        ({"name": ""}, "name"),
        ({"name": "nul\x00"}, "name"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"spec": []}, "spec"),
        ({"spec": None}, "spec"),
        ({"metric": 3}, "metric"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes, param):
    assert param in problems(**changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "patch", "spec", "recipe", "checkpoints", "metric", "backbone", "stages"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON, JSON, JSON, JSON)
def test_any_json_is_refused_or_drawn_up_but_never_breaks(spec, listed, seeds, metric):
    for body in ({"spec": spec, "variants": listed, "seeds": seeds, "metric": metric}, listed):
        try:
            draft(body, CATALOG)
        except Invalid as refusal:
            assert refusal.body["error"]["details"]  # noqa: PT017  the other outcome is fine, too


@given(JSON, JSON)
def test_any_patch_of_a_sound_base_is_refused_or_drawn_up_but_never_breaks(patch, value):
    for patches in ([patch], [{"backbone": value}], [{"recipe": value}], [{"checkpoints": value}]):
        try:
            draft(BODY | {"variants": variants(JOINT["patch"], *patches)}, CATALOG)
        except Invalid as refusal:
            assert refusal.body["error"]["details"]  # noqa: PT017  the other outcome is fine, too
