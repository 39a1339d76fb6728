"""What the processes of the benchmarks are made of."""

import pytest
import torch
from torch import nn

from benchmarks import limits
from benchmarks.frozen import Frozen
from benchmarks.networks import build
from benchmarks.records import Record
from benchmarks.rows import ROWS
from benchmarks.specs import spec_of, unknown
from benchmarks.work import Task, Work
from finetune.spec import find_problems


@pytest.fixture(scope="module")
def work(tmp_path_factory, draw_photographs) -> Work:
    folder = draw_photographs(tmp_path_factory.mktemp("loops") / "photos", train=4, val=2)
    network = "examples.small_cnn:backbone"
    return Work(data=str(folder), trained=8, validated=4, network=network, image_size=32, batch_size=4)


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_a_network_that_stands_still_is_said_to(network):
    frozen = Frozen(network, "3")
    network.requires_grad_(False)
    network[3].weight.data.add_(1)  # the head is no part of it
    assert frozen.moved() == "nothing moves"


def test_batch_norm_that_moves_is_told_from_weights_that_do(network):
    frozen = Frozen(network, "3")
    network.requires_grad_(False)
    network(torch.randn(2, 3, 3, 3))
    assert frozen.moved() == "BatchNorm's statistics move"
    network[1].weight.data.add_(1)
    assert frozen.moved() == "BatchNorm's statistics move; BatchNorm's weights are trained"
    network[0].weight.data.add_(1)
    assert frozen.moved() == "BatchNorm's statistics move; weights are trained"


def test_gradients_that_nobody_uses_are_said(network):
    network.requires_grad_(False)
    network[1].requires_grad_(True)
    assert Frozen(network, "3").moved() == "gradients of BatchNorm's weights are computed and not used"


def test_the_defaults_of_a_spec_are_the_works_two_stages(work):
    spec = spec_of(work, {})
    assert find_problems(spec) == []
    assert [(stage["name"], stage["epochs"]) for stage in spec["stages"]] == [("head", 3), ("full", 2)]
    assert spec["stages"][1]["augmentation"] == {"name": "standard", "crop_scale": [0.08, 1.0]}
    assert spec["backbone"] == {"name": "small_cnn", "weights": None}


def test_a_field_that_this_version_lacks_is_no_failure_and_a_wrong_value_is_one(work):
    assert unknown(spec_of(work, {"spec": {"warp": 9}})) == "not in this version: warp"
    with pytest.raises(ValueError, match="precision"):
        unknown(spec_of(work, {"spec": {"precision": "fp1"}}))


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.module in ("benchmarks.library", "benchmarks.service")],
    ids=lambda r: r.name,
)
def test_every_row_of_thaw_has_a_sound_spec(work, row):
    reason = unknown(spec_of(work, dict(row.options)))
    assert reason is None or reason.startswith("not in this version: ")


def test_the_limits_are_rates_of_this_network(work, monkeypatch):
    monkeypatch.setattr(limits, "LEAST_SECONDS", 0.01)
    task = Task(
        "limits", work, "", {"parts": ["step bf16", "inference bf16", "decoding", "crop"], "rounds": 1}
    )
    record = Record("limits")
    limits.measure(task, record)
    measured = {*record.rates, *record.notes}
    assert {
        name for name in limits.pieces(work, "cpu") if not name.startswith(("step fp", "inference fp"))
    } == measured
    assert record.rates["decoding, Pillow"] > 0
    assert all(rate > 0 for rate in record.rates.values())
    assert limits.head_stage(work) > 0
    assert limits.full_stage(work) > 0


def test_a_weights_file_of_another_network_is_refused(tmp_path, work):
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    own = build(work, 2).model.state_dict()
    save_file({name: tensor for name, tensor in own.items() if not name.startswith("head.")}, file)
    again = build(Work(**{**vars(work), "weights": str(file), "seed": 1}), 2)
    assert torch.equal(again.model.state_dict()["features.0.0.weight"], own["features.0.0.weight"])
    save_file({"other.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="is not of"):
        build(Work(**{**vars(work), "weights": str(file)}), 2)
