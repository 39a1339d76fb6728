import dataclasses
import threading

import pytest
import torch
from torch import nn

from finetune import features
from finetune.backbones import Registry, skeleton
from finetune.backbones import torchvision as tv
from finetune.features import compute, head_input, only_head_trains
from finetune.freezing import freezing_of
from finetune.spec import StageSpec


def stage(**fields):
    return StageSpec.model_validate(
        {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.1}}, **fields}
    )


CASES = [
    ({"freeze": {"policy": "backbone"}}, True),
    ({"freeze": {"policy": "except", "modules": ["head"]}}, True),
    ({"freeze": {"policy": "before", "module": "head"}}, True),
    ({"freeze": {"policy": "none"}}, False),
    ({"freeze": {"policy": "before", "module": "body"}}, False),
    ({"freeze": {"policy": "modules", "modules": ["head"]}}, False),
    ({"freeze": {"policy": "backbone"}, "batch_norm": "update"}, False),
    ({"freeze": {"policy": "backbone"}, "augmentation": "light"}, False),
    ({"freeze": {"policy": "backbone"}, "augmentation": "standard"}, False),
    ({"freeze": {"policy": "backbone"}, "augmentation": "trivial"}, False),
    ({"freeze": {"policy": "backbone"}, "augmentation": "randaugment"}, False),
    ({"freeze": {"policy": "backbone"}, "mix": "mixup"}, False),
    ({"freeze": {"policy": "backbone"}, "mix": "cutmix"}, False),
]


@pytest.mark.parametrize(("fields", "expected"), CASES, ids=[str(fields) for fields, _ in CASES])
def test_features_are_computed_once_where_images_have_one_view_and_all_but_the_head_stands_still(
    registry, fields, expected
):
    row = registry.find("tiny")
    model = skeleton(row, 3, 16)
    planned = stage(**fields)
    freezing = freezing_of(model, row.heads, planned.freeze, planned.batch_norm)
    assert only_head_trains(model, row.heads, planned, freezing) is expected


def test_a_parameter_of_the_networks_own_that_is_trained_forbids_features_once():
    backbone = tv.find("vit_b_32")
    assert backbone is not None
    model = skeleton(backbone, 3, 224)
    for modules in (["heads"], ["conv_proj", "encoder"]):
        planned = stage(freeze={"policy": "modules", "modules": modules})
        freezing = freezing_of(model, backbone.heads, planned.freeze, planned.batch_norm)
        assert "class_token" not in freezing.parameters
        assert not only_head_trains(model, backbone.heads, planned, freezing)


def test_the_heads_input_is_found_and_its_memory_counted(registry):
    taken = head_input(skeleton(registry.find("tiny"), 3, 16), "head", 16)
    assert taken is not None
    assert (taken.shape, taken.gives_the_output) == ((8,), True)
    assert taken.bytes(100) == 100 * 8 * 4


def test_a_head_whose_output_is_worked_on_is_no_head_for_features_once():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, images):
            return self.head(images.mean((2, 3))) * 2

    taken = head_input(Scaled().to("meta"), "head", 8)
    assert taken is not None
    assert not taken.gives_the_output


def test_a_network_that_looks_at_values_trains_without_features_once(job, run, registry, tmp_path):
    class Looking(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.head = nn.Linear(3, num_classes)

        def forward(self, images):
            return self.head(images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3)))

    row = dataclasses.replace(registry.find("tiny"), name="looking", build=Looking, containers=())
    assert head_input(skeleton(row, 3, 16), "head", 16) is None
    spec = one_stage(job, backbone={"name": "looking", "weights": None})
    events = run(spec, tmp_path, registry=Registry({"looking": row}))
    assert not any(getattr(event, "features_once", False) for event in events)


def test_other_threads_batches_do_not_confuse_the_look_at_the_head():
    backbone = tv.find("shufflenet_v2_x0_5")
    assert backbone is not None
    model = skeleton(backbone, 3, 224)
    found, over = [], threading.Event()

    def keep_busy():
        while not over.is_set():
            with torch.no_grad():
                model(torch.empty(1, 3, 64, 64, device="meta"))

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        found = [head_input(model, "fc", 64) for _ in range(5)]
    finally:
        over.set()
        thread.join()
    assert all(taken is not None and taken.gives_the_output for taken in found)


def test_features_and_head_give_what_the_network_gives(registry):
    torch.manual_seed(0)
    model = registry.find("tiny").make(3, 16)
    images = torch.randn(5, 3, 16, 16)
    taken = compute(model, "head", iter(images.split(2)))
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model.head(taken), model(images))
    assert not model.head._forward_pre_hooks


def one_stage(job, **fields):
    return job(
        {
            "epochs": 3,
            "freeze": {"policy": "backbone"},
            "lr": {"schedule": {"name": "constant", "lr": 0.2}},
        },
        **fields,
    )


def final_state(told, events):
    import safetensors.torch

    return safetensors.torch.load_file(told.checkpoints(events)[-1].weights)


def train_both_ways(run, spec, tmp_path, monkeypatch, told):
    once = run(spec, tmp_path / "once")
    monkeypatch.setattr("finetune.tables.MEMORY_LIMIT", 0)
    anew = run(spec, tmp_path / "anew")
    flags = [next(e.features_once for e in events if hasattr(e, "features_once")) for events in (once, anew)]
    assert flags == [True, False]
    return once, anew


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_features_once_trains_the_same_head_as_images_anew(job, run, told, tmp_path, monkeypatch, dropout):
    spec = one_stage(job, head={"dropout": dropout})
    once, anew = train_both_ways(run, spec, tmp_path, monkeypatch, told)
    states = [final_state(told, events) for events in (once, anew)]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-4, atol=1e-5)
    for a, b in zip(told.records(once), told.records(anew), strict=True):
        assert a.train["loss"] == pytest.approx(b.train["loss"], rel=1e-4)
        assert a.val == pytest.approx(b.val, rel=1e-4)


def test_the_heads_dropout_acts_on_features_computed_once_in_training_alone(job, run, told, tmp_path):
    still = {"epochs": 2, "freeze": {"policy": "backbone"}, "lr": {"schedule": {"name": "constant", "lr": 0}}}
    plain, dropped = (
        told.records(run(job(still, head={"dropout": dropout}), tmp_path / str(dropout)))
        for dropout in (0.0, 0.5)
    )
    assert plain[0].val == dropped[0].val == dropped[1].val
    assert plain[0].train["loss"] == pytest.approx(plain[1].train["loss"], rel=1e-6)
    assert len({plain[0].train["loss"], dropped[0].train["loss"], dropped[1].train["loss"]}) == 3


def test_the_limit_is_two_gibibytes():
    assert features.MEMORY_LIMIT == 2 * 1024**3
