import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from finetune.averaging import WeightAverage

STAGE = {
    "name": "all",
    "epochs": 3,
    "lr": {"schedule": {"name": "constant", "lr": 0.05}},
    "ema": {"decay": 0.8},
}


def test_the_average_is_the_recurrence_by_hand():
    model = nn.Linear(1, 1, bias=False)
    weights = [1.0, 3.0, -2.0, 5.0]
    model.weight.data.fill_(weights[0])
    average, expected = WeightAverage(model, 0.75), weights[0]
    for weight in weights[1:]:
        model.weight.data.fill_(weight)
        average.update()
        expected = 0.75 * expected + 0.25 * weight
        assert average.to_state()["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(1.71875)


def test_buffers_are_averaged_and_counters_are_copied():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.9)
    model.get_buffer("running_mean").fill_(10.0)
    model.get_buffer("num_batches_tracked").fill_(7)
    average.update()
    assert average.to_state()["running_mean"].tolist() == pytest.approx([1.0, 1.0])
    assert average.to_state()["num_batches_tracked"].item() == 7


def test_what_does_not_move_keeps_its_bytes_in_the_average():
    model = nn.Linear(30, 30)
    before = copy.deepcopy(model.state_dict())
    average = WeightAverage(model, 0.3)
    for _ in range(5):
        average.update()
    assert all(torch.equal(average.to_state()[name], tensor) for name, tensor in before.items())


def test_the_average_stands_in_for_the_weights_and_leaves_them_to_the_bit():
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update()
    weights = model.weight.clone()
    with average.in_place_of(model):
        assert torch.allclose(model.weight, weights - 0.5)
    assert torch.equal(model.weight, weights)


def test_each_epoch_says_the_figures_of_weights_and_average(job, run, told, tmp_path):
    records = told.records(run(job(STAGE), tmp_path / "run"))
    assert all(set(record.val_ema) == {"loss", "accuracy"} for record in records)
    assert all(record.val_ema != record.val for record in records)
    plain = {key: value for key, value in STAGE.items() if key != "ema"}
    without = told.records(run(job(plain), tmp_path / "plain"))
    assert [record.val_ema for record in without] == [None] * 3
    assert [record.val for record in without] == [record.val for record in records]  # it changes nothing else


def test_with_decay_0_the_average_is_the_weights(job, run, told, tmp_path):
    records = told.records(run(job({**STAGE, "ema": {"decay": 0.0}}), tmp_path / "run"))
    assert [record.val_ema for record in records] == [record.val for record in records]


def test_checkpoints_hold_the_weights_or_the_average_as_the_spec_says(job, run, told, tmp_path):
    checkpoints = {"keep_last": 9, "metric": "val_loss"}
    raw = run(job(STAGE, checkpoints=checkpoints), tmp_path / "raw")
    ema = run(job(STAGE, checkpoints={**checkpoints, "weights": "ema"}), tmp_path / "ema")
    assert [r.val for r in told.records(raw)] == [r.val for r in told.records(ema)]
    for of_raw, of_ema, record in zip(
        told.checkpoints(raw), told.checkpoints(ema), told.records(ema), strict=True
    ):
        assert (of_raw.value, of_ema.value) == (record.val["loss"], record.val_ema["loss"])
        one, other = load_file(of_raw.weights), load_file(of_ema.weights)
        assert not torch.equal(one["head.weight"], other["head.weight"])
    best = min(told.records(ema), key=lambda record: record.val_ema["loss"])
    assert told.result(ema)["best"]["value"] == best.val_ema["loss"]


def test_a_stage_without_an_average_saves_its_weights_though_the_spec_says_ema(job, run, told, tmp_path):
    first = {"name": "first", "epochs": 1, "lr": STAGE["lr"]}
    events = run(job(first, STAGE, checkpoints={"weights": "ema", "keep_last": 9}), tmp_path / "run")
    assert told.checkpoints(events)[0].value == told.records(events)[0].val["accuracy"]
