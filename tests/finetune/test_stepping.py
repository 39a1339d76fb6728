import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from finetune.device import Compute, choose
from finetune.feeds import Labelled
from finetune.freezing import freezing_of
from finetune.groups import groups_of
from finetune.objectives.classification import Classification
from finetune.spec.objectives import CrossEntropy
from finetune.spec.stages import StageSpec
from finetune.stepping import Stepper, grouped

SGD = {"name": "sgd", "momentum": 0.9}
CPU = torch.device("cpu")


def stage(epochs=1, lr=0.1, **fields):
    return {
        "name": "head",
        "epochs": epochs,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": lr}},
        "optimizer": SGD,
        **fields,
    }


@pytest.fixture
def head(run, told, tmp_path):
    """Runs a job; gives its last checkpoint's head in float64."""
    runs = iter(range(99))

    def train(spec):
        events = run(spec, tmp_path / str(next(runs)))
        weights = load_file(told.checkpoints(events)[-1].weights)
        return torch.cat([weights["head.weight"].flatten(), weights["head.bias"]]).double()

    return train


OBJECTIVES = [
    {"name": "cross_entropy"},
    {"name": "cross_entropy", "label_smoothing": 0.2, "class_weights": "balanced"},
    {"name": "focal", "gamma": 1.5, "class_weights": "balanced"},
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize(("small", "accumulate", "whole"), [(5, 2, 10), (7, 3, 21), (5, 99, 24)])
def test_several_batches_make_the_step_of_one_batch_of_all_their_images(
    job, head, data_dir, registry, objective, small, accumulate, whole
):
    """24 images: the last step of each has fewer batches, and a last batch with fewer images."""
    together = head(job(stage(epochs=3), batch_size=whole, objective=objective))
    apart = head(job(stage(epochs=3, accumulate=accumulate), batch_size=small, objective=objective))
    assert torch.allclose(together, apart, rtol=0, atol=2e-6)
    alone = head(job(stage(epochs=3), batch_size=small, objective=objective))
    assert not torch.allclose(together, alone, rtol=0, atol=1e-4)


def test_an_epoch_has_a_step_for_each_group_of_batches(job, run, tmp_path):
    events = run(job(stage(accumulate=2), batch_size=5), tmp_path / "run")
    (planned,) = events[0].plan["stages"]
    assert planned["steps_per_epoch"] == 3  # 5 batches of 24 images
    assert [e.step for e in events if type(e).__name__ == "Progress"] == [1, 2, 3]
    assert "a step for every 2 batches" in planned["options"]


def test_batches_are_grouped_in_order_and_the_last_group_may_be_shorter():
    batches = [(torch.tensor(n), torch.tensor(n)) for n in range(7)]
    sizes = [[int(inputs) for inputs, _ in group] for group in grouped(iter(batches), 3)]
    assert sizes == [[0, 1, 2], [3, 4, 5], [6]]


def test_fp16_trains_like_fp32_and_saves_fp32(job, run, told, tmp_path):
    records = {}
    for precision in ("fp32", "fp16"):
        events = run(job(stage(epochs=3), precision=precision), tmp_path / precision)
        assert events[0].precision == precision
        records[precision] = told.records(events)
        weights = load_file(told.checkpoints(events)[-1].weights)
        assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}
    losses = {name: [record.train["loss"] for record in found] for name, found in records.items()}
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["fp16"] != losses["fp32"]


def test_fp16_scales_the_loss_and_clips_the_gradients_that_are_not_scaled(job, head):
    """A bound above every gradient changes nothing; it would, if the scaled gradients were clipped."""
    plain = head(job(stage(epochs=2), precision="fp16"))
    bounded = head(job(stage(epochs=2, max_grad_norm=100.0), precision="fp16"))
    assert torch.equal(plain, bounded)


def test_the_scaler_skips_a_step_whose_gradients_overflow():
    compute = Compute(CPU, "fp16")
    scaler, layer = compute.gradient_scaler(), nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before, scale = layer.weight.item(), scaler.get_scale()
    scaler.scale(layer(torch.tensor([[float("inf")]])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert layer.weight.item() == before
    assert scaler.get_scale() == scale / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_are_not_scaled(precision):
    scaler = Compute(CPU, precision).gradient_scaler()
    assert not scaler.is_enabled()
    assert scaler.scale(torch.tensor(3.0)).item() == 3.0


def test_auto_takes_what_the_device_is_fastest_in(monkeypatch):
    for faster, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("finetune.device._is_faster_in_bf16", lambda device, faster=faster: faster)
        assert choose("cpu", "auto").precision == expected
    assert choose("cpu", "fp16").precision == "fp16"


def test_auto_takes_fp16_on_a_gpu_without_bf16(monkeypatch):
    monkeypatch.setattr("finetune.device._is_faster_in_bf16", lambda device: False)
    assert choose("cuda", "auto").precision == "fp16"


AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16\n"
INTEL_WITH_AMX = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n"


@pytest.mark.parametrize(
    ("has_bf16", "processor", "expected"),
    [
        pytest.param(True, AMD, "bf16", id="amd"),
        pytest.param(True, INTEL_WITH_AMX, "bf16", id="intel-with-amx"),
        pytest.param(True, INTEL, "fp32", id="intel-without-amx"),
        pytest.param(True, None, "bf16", id="not-linux"),
        pytest.param(False, AMD, "fp32", id="without-bf16"),
    ],
)
def test_auto_takes_bf16_on_the_processors_that_are_faster_in_it(
    tmp_path, monkeypatch, has_bf16, processor, expected
):
    file = tmp_path / "cpuinfo"
    if processor is not None:
        file.write_text(processor)
    monkeypatch.setattr("finetune.processor.DESCRIPTION", file)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    assert choose("cpu", "auto").precision == expected


def channels_last(tensors):
    """Whether all of them with four dimensions are; there must be some."""
    wide = [tensor for tensor in tensors if tensor.ndim == 4]
    return bool(wide) and all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in wide)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_all_that_a_step_keeps_has_the_networks_memory_format_resumed_or_not(registry, name, precision):
    lr = {"schedule": {"name": "constant", "lr": 0.1}}
    fields = {"epochs": 1, "lr": lr, "optimizer": {"name": name}, "ema": {}}
    stage = StageSpec.model_validate(fields)
    model = registry.find("tiny").make(3, 16).to(memory_format=torch.channels_last)
    freezing = freezing_of(model, ("head",), stage.freeze, "eval")
    grouping = groups_of(model, ("head",), (), freezing, stage.lr)
    table: Any = SimpleNamespace(stage=stage, recomputed=(), grouping=grouping)
    blueprint: Any = SimpleNamespace(backbone=registry.find("tiny"), classes=("blue", "green", "red"))
    dataset: Any = SimpleNamespace(classes=blueprint.classes)
    objective = Classification.by_cross_entropy(CrossEntropy(), dataset, CPU)
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    batch = Labelled(images, torch.zeros(4, dtype=torch.int64))

    def made():
        return Stepper(model, table, blueprint, objective, Compute(CPU, precision))

    def step(stepper):
        stepper.step([batch], {"default": 0.1}, model, objective.tally())

    first = made()
    step(first)
    file = io.BytesIO()
    torch.save(first.to_state(), file)
    file.seek(0)
    resumed = made()
    resumed.restore(torch.load(file, weights_only=True))
    step(resumed)
    assert channels_last(p.grad for p in model.parameters() if p.grad is not None)
    assert channels_last(model.parameters())
    for stepper in (first, resumed):
        states = stepper.optimizer.state.values()
        kept = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        assert channels_last(kept)
        assert stepper.average is not None
        assert channels_last(stepper.average.to_state().values())
