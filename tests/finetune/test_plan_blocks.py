"""The freeze map of a plan."""

import pytest

from finetune.backbones import load, skeleton
from finetune.data.dataset import open_dataset
from finetune.freezing import freezing_of
from finetune.network import draw, resolve_with
from finetune.plan import make_plan
from finetune.plan.blocks import blocks_of, state_of
from finetune.spec import JobSpec
from finetune.spec.stages import FreezeBackbone, FreezeBefore, FreezeModules, FreezeNone
from finetune.tables import tables_of

NAMES = (
    "resnet18",
    "vgg11_bn",
    "mobilenet_v2",
    "efficientnet_b0",
    "vit_b_16",
    "densenet121",
    "googlenet",
    "swin_t",
)


@pytest.fixture(scope="module")
def networks():
    registry = load(())
    found = {}
    for name in NAMES:
        backbone = registry.find(name)
        found[name] = backbone, skeleton(backbone, 2, backbone.preprocessing.crop)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_block(networks, name):
    backbone, model = networks[name]
    found = blocks_of(model, backbone)
    owners = [owner for block in found for owner in block.owners]
    assert len(owners) == len(set(owners))
    assert sum(block.parameters for block in found) == sum(p.numel() for p in model.parameters())
    assert 4 <= len(found) <= 40
    assert found[-1].is_head


@pytest.mark.parametrize("name", NAMES)
def test_the_boundary_of_a_block_freezes_those_before_it_and_no_others(networks, name):
    backbone, model = networks[name]
    found = blocks_of(model, backbone)
    for index, block in enumerate(found[1:], 1):
        policy = FreezeBefore(policy="before", module=block.name)
        freezing = freezing_of(model, backbone.heads, policy, "eval")
        states = [state_of(one, freezing) for one in found]
        assert states[:index] == ["frozen"] * index, block.name
        assert not {"frozen", "partly"} & set(states[index:]), block.name


def test_states_tell_frozen_trained_partly_and_head(networks):
    backbone, model = networks["resnet18"]
    found = blocks_of(model, backbone)

    def states(policy):
        return [state_of(block, freezing_of(model, backbone.heads, policy, "eval")) for block in found]

    assert states(FreezeNone(policy="none")) == ["trained"] * 5 + ["head"]
    assert states(FreezeBackbone(policy="backbone")) == ["frozen"] * 5 + ["head"]
    some = FreezeModules(policy="modules", modules=["layer1.0", "fc"])
    assert states(some) == ["trained", "partly", "trained", "trained", "trained", "frozen"]


def test_plan_has_the_blocks_and_what_each_stage_does_with_them(job, data_dir, registry, tmp_path):
    lr = {"schedule": {"name": "constant", "lr": 0.1}}
    stages = [
        {"epochs": 1, "freeze": {"policy": "backbone"}, "lr": lr},
        {"epochs": 1, "freeze": {"policy": "before", "module": "layer3"}, "lr": lr},
    ]
    body = job(*stages, backbone={"name": "resnet18", "weights": None})
    spec = resolve_with(registry, JobSpec.model_validate(body))
    dataset = open_dataset(data_dir, spec.dataset, spec.seed)
    blueprint = draw(spec, registry, dataset.classes, tmp_path, None)
    plan = make_plan(spec, blueprint, dataset, tables_of(spec, blueprint, dataset))
    assert [block.name for block in plan.blocks] == ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [block.boundary for block in plan.blocks] == [None, "layer1", "layer2", "layer3", "layer4", "fc"]
    assert [block.head for block in plan.blocks] == [False] * 5 + [True]
    assert plan.stages[0].blocks == ["frozen"] * 5 + ["head"]
    assert plan.stages[1].blocks == ["frozen"] * 3 + ["trained", "trained", "head"]
    for stage in plan.stages:
        frozen = [
            b.parameters for b, state in zip(plan.blocks, stage.blocks, strict=True) if state == "frozen"
        ]
        assert sum(frozen) == stage.frozen_parameters
