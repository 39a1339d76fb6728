import json

import pytest
import safetensors.torch
import torch

from finetune.errors import WeightsIncompatible
from finetune.network import build, draw
from finetune.spec import JobSpec

CLASSES = ("blue", "green", "red")
METADATA = {
    "classes": json.dumps(CLASSES),
    "preprocessing": json.dumps(
        {"resize": 16, "crop": 16, "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear"}
    ),
}


@pytest.fixture
def state(registry):
    """Weights of the tiny network whose head knows blue, green and red."""
    torch.manual_seed(5)
    return registry.find("tiny").make(3, 16).state_dict()


@pytest.fixture
def network(registry, tmp_path, state, job):
    """Draws and builds the tiny network for these classes from those weights."""

    def make(classes, metadata=METADATA, **fields):
        safetensors.torch.save_file(state, tmp_path / "x.safetensors", metadata)
        backbone = {"name": "tiny", "weights": {"file": "x.safetensors"}}
        spec = JobSpec.model_validate({**job(**fields), "backbone": backbone})
        blueprint = draw(spec, registry, classes, tmp_path, None)
        return blueprint.head, build(blueprint, seed=1, dropout=0.0)

    return make


def rows(state, *which):
    return state["head.weight"][list(which)], state["head.bias"][list(which)]


def taken(model, *which):
    return rows(model.state_dict(), *which)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_head_is_kept_whole_for_the_same_classes(network, state):
    head, model = network(CLASSES)
    assert (head.action, head.reason) == ("kept", "the weights' head knows the same classes")
    assert (head.kept, head.new) == (CLASSES, ())
    assert same(taken(model, 0, 1, 2), rows(state, 0, 1, 2))


def test_known_classes_in_another_order_keep_their_own_rows(network, state):
    head, model = network(("green", "red", "blue"))
    assert head.action == "kept"
    assert same(taken(model, 0, 1, 2), rows(state, 1, 2, 0))


def test_fewer_classes_keep_their_rows(network, state):
    head, model = network(("blue", "red"))
    assert (head.action, head.outputs) == ("kept", 2)
    assert same(taken(model, 0, 1), rows(state, 0, 2))


def test_rows_of_known_classes_are_kept_and_new_ones_are_drawn_as_in_a_new_head(network, state):
    head, model = network(("amber", "blue", "red", "violet"))
    assert (head.action, head.kept, head.new) == ("adapted", ("blue", "red"), ("amber", "violet"))
    assert head.reason == "the weights' head knows 2 of the 4 classes"
    assert same(taken(model, 1, 2), rows(state, 0, 2))
    _, fresh = network(("amber", "blue", "red", "violet"), head={"keep": "never"})
    assert same(taken(model, 0, 3), taken(fresh, 0, 3))
    assert torch.equal(model.stem[0].weight, state["stem.0.weight"])


EMBEDS = {**METADATA, "objective": "triplet", "outputs": "3"}


@pytest.mark.parametrize(
    ("classes", "fields", "metadata", "reason"),
    [
        (CLASSES, {}, EMBEDS, "the weights are of an embedding network, which knows no classes"),
        (CLASSES, {"head": {"keep": "never"}}, METADATA, 'head.keep is "never"'),
        (("cyan", "pink"), {}, METADATA, "the weights' head knows none of the classes"),
        (CLASSES, {}, {}, "the weights do not say which classes their head knows"),
    ],
)
def test_a_head_is_replaced_where_nothing_of_it_can_or_may_be_kept(
    network, state, classes, fields, metadata, reason
):
    head, model = network(classes, metadata, **fields)
    assert (head.action, head.reason, head.new) == ("replaced", reason, classes)
    count = len(classes)
    assert not same(taken(model, *range(count)), rows(state, *range(count)))
    assert torch.equal(model.stem[0].weight, state["stem.0.weight"])


def test_weights_whose_head_has_other_rows_than_they_say_are_refused(network):
    with pytest.raises(
        WeightsIncompatible, match=r"have head.weight as \[3, \d+\] where the network has \[4"
    ):
        network(("blue", "pink"), {**METADATA, "classes": json.dumps([*CLASSES, "black"])})


def test_the_plan_says_which_rows_are_kept_and_which_are_new(tmp_path, run, job, state):
    safetensors.torch.save_file(
        state, tmp_path / "x.safetensors", {**METADATA, "classes": json.dumps(["red", "blue", "pink"])}
    )
    backbone = {"name": "tiny", "weights": {"file": "x.safetensors"}}
    events = run(job(backbone=backbone), tmp_path / "out", weights_dir=tmp_path)
    assert events[0].plan["head"] == {
        "modules": ["head"],
        "action": "adapted",
        "reason": "the weights' head knows 2 of the 3 classes",
        "classes": 3,
        "outputs": 3,
        "kept": ["blue", "red"],
        "new": ["green"],
    }
