"""The example of an operator's own backbone, and the real weights that it is made for, where they are."""

import sys
from pathlib import Path

import pytest
import torch

from finetune.backbones import load, skeleton
from finetune.backbones.weights import find_source
from finetune.network import build, draw
from finetune.spec import BackboneSpec, JobSpec

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT.parent / "shared" / "weights"
FILE = "mobilenet_v1.safetensors"
PATH = "examples.mobilenet_v1:backbone"


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    return load([PATH])


def spec(**weights):
    stages = [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}]
    backbone = {"name": "mobilenet_v1", "weights": weights or None}
    return JobSpec.model_validate({"dataset": {"path": "a"}, "backbone": backbone, "stages": stages})


def test_the_example_registers(registry):
    assert registry.failures == {}
    assert registry.names()[0] == "mobilenet_v1"


def test_the_example_takes_any_size_and_number_of_classes(registry, tmp_path):
    model = build(draw(spec(), registry, ("a", "b", "c"), tmp_path, None), 0, 0.0).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 3)


def test_stride_two_pads_at_the_right_and_at_the_bottom_only(registry):
    stem = registry.find("mobilenet_v1").make(2, 224).stem[0]
    with torch.no_grad():
        stem.weight.fill_(1.0)
        sums = stem(torch.ones(1, 3, 4, 4))[0, 0] / 3
    assert sums.tolist() == [[9, 6], [6, 4]]


needs_weights = pytest.mark.skipif(not (WEIGHTS / FILE).is_file(), reason=f"no ../shared/weights/{FILE} here")


@needs_weights
def test_every_tensor_of_the_real_weights_fits_and_only_the_head_is_missing(registry):
    row = registry.find("mobilenet_v1")
    source = find_source(BackboneSpec(name=row.name, weights={"file": FILE}), row, WEIGHTS, None)  # type: ignore[arg-type]  # as JSON
    assert source is not None
    assert source.shapes is not None
    own = {name: tuple(tensor.shape) for name, tensor in skeleton(row, 2, 224).state_dict().items()}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    assert own.keys() - source.shapes.keys() - counters == {"head.weight", "head.bias"}
    assert all(own[name] == tuple(shape) for name, shape in source.shapes.items())


@needs_weights
def test_the_real_weights_are_copied(registry):
    blueprint = draw(spec(file=FILE), registry, ("ants", "bees"), WEIGHTS, None)
    assert blueprint.head.action != "kept"
    model, random = build(blueprint, 0, 0.0), registry.find("mobilenet_v1").make(2, 224)
    moved = [n for n, t in model.state_dict().items() if not torch.equal(t, random.state_dict()[n])]
    assert len(moved) >= 25 * 5
