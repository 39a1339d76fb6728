import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.spec import find_problems
from finetune.spec.patches import NOT_OF_A_VARIANT, apply_patch, merge, patch_problems, sets

BASE = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "resnet18", "weights": {"file": "a.safetensors"}},
    "recipe": {"name": "two_stage", "head_epochs": 3, "full_lr": 0.001},
    "objective": {"name": "cross_entropy", "label_smoothing": 0.1},
}
STAGES = [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}]

# RFC 7396, appendix A: original, patch, result.
RFC_EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "name"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("original", "patch", "result"), RFC_EXAMPLES)
def test_the_examples_of_rfc_7396_come_out_as_written(original, patch, result):
    assert merge(original, patch) == result


def test_the_example_document_of_rfc_7396_comes_out_as_written():
    original = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }
    assert merge(original, patch) == {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }


@given(JSON, JSON)
def test_merging_twice_is_merging_once_and_changes_neither_argument(target, patch):
    before = copy.deepcopy((target, patch))
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert (target, patch) == before


def test_an_object_of_another_name_replaces_and_one_of_the_same_name_merges():
    other = apply_patch(BASE, {"recipe": {"name": "joint"}})
    same = apply_patch(BASE, {"recipe": {"name": "two_stage", "head_epochs": 5}})
    unnamed = apply_patch(BASE, {"recipe": {"head_epochs": 5}})
    assert other["recipe"] == {"name": "joint"}
    assert same["recipe"] == unnamed["recipe"] == {"name": "two_stage", "head_epochs": 5, "full_lr": 0.001}
    assert find_problems(other) == find_problems(same) == []


def test_an_object_of_another_policy_replaces():
    frozen = {"freeze": {"policy": "before", "module": "layer3"}}
    assert merge(frozen, {"freeze": {"policy": "backbone"}}) == {"freeze": {"policy": "backbone"}}


def test_another_backbone_does_not_inherit_the_weights_of_the_first():
    patched = apply_patch(BASE, {"backbone": {"name": "resnet34"}})
    assert patched["backbone"] == {"name": "resnet34"}


def test_null_weights_are_random_ones_and_not_the_default():
    assert apply_patch(BASE, {"backbone": {"weights": None}})["backbone"] == {
        "name": "resnet18",
        "weights": None,
    }
    other = {"backbone": {"name": "resnet34", "weights": None}}
    assert apply_patch(BASE, other)["backbone"] == other["backbone"]


def test_a_recipe_takes_the_stages_away_and_stages_the_recipe():
    staged = apply_patch(BASE, {"stages": STAGES})
    assert "recipe" not in staged
    assert find_problems(staged) == []
    back = apply_patch(staged, {"recipe": {"name": "joint"}})
    assert "stages" not in back
    assert find_problems(back) == []


def test_a_patch_with_both_stages_and_a_recipe_is_left_to_the_specs_own_refusal():
    patched = apply_patch(BASE, {"stages": STAGES, "recipe": {"name": "joint"}})
    assert [problem.param for problem in find_problems(patched)] == ["stages"]


def test_text_in_the_place_of_an_object_replaces_and_an_object_replaces_text():
    assert merge(
        {"augmentation": {"name": "standard", "crop_scale": [0.5, 1]}}, {"augmentation": "none"}
    ) == {"augmentation": "none"}
    assert merge({"augmentation": "none"}, {"augmentation": {"name": "standard"}}) == {
        "augmentation": {"name": "standard"}
    }


def test_a_patch_never_changes_the_base():
    before = copy.deepcopy(BASE)
    apply_patch(BASE, {"backbone": {"weights": None}, "recipe": {"full_lr": None}})["dataset"]["path"] = "x"
    assert before == BASE


@pytest.mark.parametrize("patch", [None, [], "joint", 3])
def test_what_is_no_object_is_no_patch(patch):
    (problem,) = patch_problems(patch)
    assert problem.message == "a patch is a JSON object with the fields of the spec to change"


@pytest.mark.parametrize("field", sorted(NOT_OF_A_VARIANT))
def test_fields_that_belong_to_the_experiment_are_refused_in_a_patch(field):
    (problem,) = patch_problems({field: None, "batch_size": 8})
    assert (problem.param, problem.code) == (field, "not_of_a_variant")
    assert problem.message == f"a variant cannot change it; {NOT_OF_A_VARIANT[field]}"


def test_a_patch_sets_the_fields_that_it_names_and_all_within_what_it_replaces():
    patch = {"recipe": {"name": "joint"}, "stages": [{"epochs": 0}], "batch_size": 0}
    assert sets(patch, "recipe.name")
    assert sets(patch, "stages.0.epochs")
    assert sets(patch, "batch_size")
    assert not sets(patch, "recipe.epochs")
    assert not sets(patch, "dataset.path")
