"""The tutorial-sized network: 546 classes, trained with a freeze boundary in its middle."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

import finetune
from finetune.backbones import load
from finetune.checkpoint import load_state
from finetune.events import EpochEnded, RunStarted
from finetune.freezing import freezing_of
from finetune.modules import blocks
from finetune.spec import JobSpec

ROOT = Path(__file__).parents[2]
CLASSES = 546
SPEC = yaml.safe_load((ROOT / "examples" / "conv_stack.yaml").read_text())


@pytest.fixture(scope="module")
def registry():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.chdir(ROOT)
        return load(["examples.conv_stack:backbone"])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """546 classes of tiny noise pictures, two to train on and one to validate."""
    root = tmp_path_factory.mktemp("symbols")
    noise = np.random.RandomState(0)
    for number in range(CLASSES):
        for split, name in (("train", "0"), ("train", "1"), ("val", "2")):
            folder = root / "symbols" / split / f"class-{number:03}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.randint(0, 256, (8, 8, 3), "uint8")).save(folder / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory, registry):
    """What the network starts from: random weights in a file, with a head of other classes."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(2)
    state = registry.find("conv_stack").make(10, 64).state_dict()
    safetensors.torch.save_file(state, folder / "conv_stack.safetensors")
    return folder


@pytest.fixture(scope="module")
def trained(registry, data_dir, weights_dir, tmp_path_factory):
    """The example's one stage, for two epochs of small images: its plan, and both checkpoints."""
    stage = {**SPEC["stages"][0], "epochs": 2}
    spec = SPEC | {
        "stages": [stage],
        "image_size": 16,
        "batch_size": 64,
        "precision": "fp32",
        "checkpoints": {"keep_last": 5},
    }
    folder = tmp_path_factory.mktemp("run")
    events = list(
        finetune.train(
            spec, folder, data_dir=data_dir, weights_dir=weights_dir, registry=registry, device="cpu"
        )
    )
    plan = next(event.plan for event in events if isinstance(event, RunStarted))
    return plan, [event.checkpoint for event in events if isinstance(event, EpochEnded)]


def boundary(registry):
    """What the example's stage freezes in the network with 546 classes."""
    model = registry.find("conv_stack").make(CLASSES, 64)
    stage = JobSpec.model_validate(SPEC).stages[0]  # type: ignore[index]  # the example spells its stages out
    return model, freezing_of(model, ("head",), stage.freeze, stage.batch_norm)


def test_the_network_has_eight_blocks_and_a_head(registry):
    assert registry.failures == {}
    row = registry.find("conv_stack")
    model = row.make(CLASSES, 64)
    assert blocks(model, row.containers, row.heads) == [*(f"blocks.{n}" for n in range(8)), "head"]
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, CLASSES)


def test_the_example_s_plan_has_546_classes_and_its_boundary_in_the_middle(trained):
    plan, _ = trained
    assert len(plan["classes"]) == CLASSES
    assert (plan["head"]["action"], plan["head"]["classes"]) == ("replaced", CLASSES)
    (stage,) = plan["stages"]
    assert [part["module"] for part in stage["frozen"]] == [f"blocks.{n}" for n in range(4)]
    assert [group["factor"] for group in stage["groups"]] == [10.0, 1.0]


def test_the_frozen_half_keeps_its_bytes_and_every_trained_tensor_moves(trained, registry, weights_dir):
    _, (first, last) = trained
    start = safetensors.torch.load_file(weights_dir / "conv_stack.safetensors")
    early, late = (safetensors.torch.load_file(c.weights) for c in (first, last))
    _, freezing = boundary(registry)
    frozen = {*freezing.parameters, *freezing.buffers}
    assert {name.rsplit(".", 2)[0] for name in frozen} == {f"blocks.{n}" for n in range(4)}
    for name in late:
        if name in frozen:
            assert late[name].numpy().tobytes() == start[name].numpy().tobytes(), name
        else:
            assert not torch.equal(early[name], late[name]), name
            assert name.startswith("head.") or not torch.equal(start[name], late[name]), name


def test_the_optimizer_holds_exactly_the_trained_parameters(trained, registry):
    _, (_, last) = trained
    model, freezing = boundary(registry)
    trained_names = {name for name, _ in model.named_parameters()} - set(freezing.parameters)
    assert set(load_state(last.state)["stepper"]["optimizer"]["parameters"]) == trained_names
    assert len(trained_names) == 4 * 3 + 2


def test_the_example_is_accepted_for_546_classes_by_the_service(make_house, data_dir, weights_dir):
    import httpx

    house = make_house(backbones="examples.conv_stack:backbone")
    shutil.copytree(data_dir / "symbols", house.data / "symbols")
    shutil.copy(weights_dir / "conv_stack.safetensors", house.weights)
    shutil.copytree(ROOT / "examples", house.root / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    house.serve()
    answer = httpx.post(f"{house.url}/v1/jobs/plan", json=SPEC, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["classes"]) == CLASSES
