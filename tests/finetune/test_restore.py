"""`restore`: with which of a stage's weights the next one begins."""

import torch
from safetensors.torch import load_file

from finetune.checkpoint import Resume
from finetune.events import EpochEnded

# Rates that wreck the network in the stage's later epochs: the first one is its best.
WRECKING = {"schedule": {"name": "list", "values": [0.05, 30.0, 30.0]}}
STILL = {"schedule": {"name": "constant", "lr": 0.0}}
METRIC = {"metric": "val_loss", "keep_last": 9}


def stages(restore):
    return (
        {"name": "wreck", "epochs": 3, "lr": WRECKING, "restore": restore},
        {"name": "still", "epochs": 1, "freeze": {"policy": "backbone"}, "lr": STILL},
    )


def tensors(checkpoint):
    return load_file(checkpoint.weights)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_last_begins_the_next_stage_with_the_last_weights(job, run, told, tmp_path):
    found = told.checkpoints(run(job(*stages("last"), checkpoints=METRIC), tmp_path / "run"))
    assert same(tensors(found[3]), tensors(found[2]))


def test_best_begins_the_next_stage_with_the_best_weights_of_the_stage(job, run, told, tmp_path):
    events = run(job(*stages("best"), checkpoints=METRIC), tmp_path / "run")
    losses = [record.val["loss"] for record in told.records(events)]
    assert losses[0] == min(losses[:3])
    found = told.checkpoints(events)
    assert same(tensors(found[3]), tensors(found[0]))
    assert not same(tensors(found[3]), tensors(found[2]))
    assert any("best weights" in option for option in events[0].plan["stages"][0]["options"])


def test_a_run_killed_after_the_stages_last_epoch_still_begins_the_next_with_its_best(
    job, run, told, tmp_path
):
    spec = job(*stages("best"), checkpoints=METRIC)
    whole = told.checkpoints(run(spec, tmp_path / "whole", keep_all=True))
    for killed_after in (1, 2, 3):
        at = whole[killed_after - 1]
        rest = run(spec, tmp_path / str(killed_after), resume=Resume(at.weights, at.state))
        last = [event for event in rest if isinstance(event, EpochEnded)][-1]
        assert last.checkpoint.sha256 == whole[-1].sha256


def test_with_averages_the_next_stage_begins_with_the_best_average(job, run, told, tmp_path):
    first, second = stages("best")
    spec = job(
        {**first, "ema": {"decay": 0.5}},
        second,
        checkpoints={**METRIC, "weights": "ema"},
    )
    events = run(spec, tmp_path / "run")
    losses = [record.val_ema["loss"] for record in told.records(events)[:3]]
    found = told.checkpoints(events)
    assert same(tensors(found[3]), tensors(found[losses.index(min(losses))]))
