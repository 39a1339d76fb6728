"""Runs that are left in the middle of an epoch: killed after a state was saved, or asked to stop."""

import dataclasses
from typing import Any

import pytest
import torch

import finetune
from finetune.backbones import Registry, backbone
from finetune.checkpoint import Resume
from finetune.errors import NonfiniteLoss
from finetune.events import EpochEnded, Progress, RunEnded, StageEnded, StageStarted, StateSaved
from finetune.stopping import Stopping

HEAD = {
    "name": "head",
    "epochs": 2,
    "freeze": {"policy": "backbone"},
    "optimizer": {"name": "adamw"},
    "lr": {"schedule": {"name": "constant", "lr": 0.05}, "warmup_epochs": 0.7},
    "augmentation": "light",
    "sampler": "balanced",
    "restore": "best",
}
ALL = {
    "name": "all",
    "epochs": 3,
    "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    "lr": {"schedule": {"name": "cosine", "lr": 0.05, "end_lr": 0.001}, "warmup_epochs": 1.5},
    "augmentation": "standard",
    "mix": "cutmix",
    "ema": {"decay": 0.9},
    "early_stopping": {"metric": "val_loss", "patience": 2},
    "max_grad_norm": 1.0,
}
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a head on features, then everything": ([HEAD, ALL], {"batch_size": 5}),
    "three batches a step, the last one of two": ([{**ALL, "accumulate": 3}], {"batch_size": 3}),
    "averages are kept, in fp16": ([ALL], {"checkpoints": {"weights": "ema"}, "precision": "fp16"}),
    "batches of classes": (
        [{**ALL, "mix": None, "early_stopping": None}],
        {"objective": {"name": "triplet", "classes_per_batch": 2, "images_per_class": 2}},
    ),
    "lamb, which counts its steps by group": ([{**ALL, "optimizer": {"name": "lamb"}}], {}),
}


@pytest.fixture
def begin(data_dir, registry):
    """Starts a run as another process would: with torch's generator in another state."""

    def start(spec, folder, resume=None, **options):
        torch.manual_seed(torch.seed() % 2**31)
        settings = {"data_dir": data_dir, "registry": registry, "device": "cpu", **options}
        return finetune.train(spec, folder, resume=resume, **settings)

    return start


@pytest.fixture
def make(job):
    """A spec of a case that saves after every so many steps."""

    def spec(case, every):
        stages, fields = CASES[case]
        return job(
            *stages, **fields | {"checkpoints": {**fields.get("checkpoints", {}), "every_steps": every}}
        )

    return spec


def figures(record):
    """What must not depend on interruptions: everything but the times and the memory."""
    return dataclasses.replace(record, seconds={}, images_per_second=0.0, peak_memory_bytes=0)


def ended(events):
    return [event for event in events if isinstance(event, EpochEnded)]


@pytest.mark.parametrize("case", CASES)
def test_killed_after_every_step_a_run_ends_with_the_very_bytes_of_the_uninterrupted_one(
    make, begin, tmp_path, case
):
    whole = list(begin(make(case, None), tmp_path / "whole", keep_all=True))
    spec, resume, found, states = make(case, 1), None, list[EpochEnded](), 0
    for number in range(999):
        events = begin(spec, tmp_path / str(number), resume, keep_all=True)
        event = next(event for event in events if isinstance(event, StateSaved | EpochEnded | RunEnded))
        events.close()
        best = found[-1].checkpoint if found else None
        best = next((one.checkpoint for one in reversed(found) if one.checkpoint.best), best)
        if isinstance(event, RunEnded):
            break
        if isinstance(event, EpochEnded):
            found.append(event)
            best = event.checkpoint if event.checkpoint.best else best
            resume = Resume(event.checkpoint.weights, event.checkpoint.state)
        else:
            states += 1
            resume = Resume(None, event.state)
        if best is not None:
            resume = dataclasses.replace(resume, best=best.weights, best_sha256=best.sha256)
    assert [figures(one.record) for one in found] == [figures(one.record) for one in ended(whole)]
    assert [one.checkpoint.sha256 for one in found] == [one.checkpoint.sha256 for one in ended(whole)]
    assert isinstance(event, RunEnded)
    assert event.result == whole[-1].result
    assert states >= len(found)


def test_a_state_is_saved_after_every_so_many_steps_but_not_where_a_checkpoint_follows(make, begin, tmp_path):
    events = list(begin(make("a head on features, then everything", 2), tmp_path, keep_all=True))
    saved = [event for event in events if isinstance(event, StateSaved)]
    (first,) = {event.steps for event in events if isinstance(event, Progress)}
    assert first == 5
    assert [(s.global_epoch, s.step) for s in saved[:4]] == [(1, 2), (1, 4), (2, 2), (2, 4)]
    assert saved[0].state.name == "epoch-00001-step-0000002.state.pt"
    assert all(one.state.stat().st_size == one.size for one in saved)


def test_of_the_states_of_a_run_the_newest_stays_until_its_epoch_ends(make, begin, tmp_path):
    for event in begin(make("a head on features, then everything", 1), tmp_path):
        here = sorted(path.name for path in tmp_path.glob("*-step-*"))
        if isinstance(event, StateSaved):
            newest = event.state.name
        if isinstance(event, Progress) and event.step > 2:
            assert here == [newest]
    assert here == []


def test_a_run_that_goes_on_within_an_epoch_says_where_and_decodes_nothing_twice(make, begin, tmp_path):
    spec = make("three batches a step, the last one of two", 1)
    events = list(begin(spec, tmp_path / "whole", keep_all=True))
    at = [event for event in events if isinstance(event, StateSaved)][-1]
    rest = list(begin(spec, tmp_path / "rest", Resume(None, at.state), data_workers=2))
    (started,) = [event for event in rest if isinstance(event, StageStarted)]
    assert (started.epoch, started.step) == (at.epoch, at.step)
    assert [event.step for event in rest if isinstance(event, Progress)] == [at.step + 1]
    again, before = ended(rest)[-1].record, ended(events)[-1].record
    assert figures(again) == figures(before)
    assert again.seconds["train"] > 0


@pytest.fixture
def stop_at(make, begin, tmp_path):
    """Asks a run to stop when it has made so many steps; gives its events."""

    def run(steps, case="a head on features, then everything"):
        stopping, events = Stopping(), []
        for event in begin(make(case, None), tmp_path / f"stopped-{steps}", keep_all=True, stopping=stopping):
            events.append(event)
            if sum(isinstance(event, Progress) for event in events) == steps:
                assert stopping.ask()
        return events

    return run


@pytest.mark.parametrize("steps", [1, 3, 5, 12])
def test_asked_to_stop_a_run_saves_after_its_step_and_goes_on_exactly(stop_at, make, begin, tmp_path, steps):
    spec = make("a head on features, then everything", None)
    whole = ended(begin(spec, tmp_path / "whole", keep_all=True))
    events = stop_at(steps)
    saved = events[-1]
    assert isinstance(saved, StateSaved)
    assert sum(isinstance(event, Progress) for event in events) == steps
    best = [one.checkpoint for one in ended(events) if one.checkpoint.best]
    found = Resume(None, saved.state, *((best[-1].weights, best[-1].sha256) if best else ()))
    rest = ended(begin(spec, tmp_path / "rest", found, keep_all=True))
    expected = whole[saved.global_epoch - 1 :]
    assert [figures(one.record) for one in rest] == [figures(one.record) for one in expected]
    assert [one.checkpoint.sha256 for one in rest] == [one.checkpoint.sha256 for one in expected]


def test_asked_to_stop_while_it_validates_a_run_keeps_the_epochs_steps(job, data_dir, registry, tmp_path):
    stopping, plain = Stopping(), registry.find("tiny").build

    class Asks(torch.nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.body, self.calls = plain(classes), 0

        def forward(self, images):
            self.calls += not self.training
            if self.calls == 3:
                stopping.ask()
            return self.body(images)

    row = backbone(name="asks", head="body.head", preprocessing=registry.find("tiny").preprocessing)(Asks)
    stage = {"name": "all", "epochs": 2, "lr": ALL["lr"], "ema": {"decay": 0.5}}
    spec = job(stage, backbone={"name": "asks", "weights": None})
    options = {"data_dir": data_dir, "registry": Registry({"asks": row}), "device": "cpu", "keep_all": True}
    events = list(finetune.train(spec, tmp_path / "stopped", stopping=stopping, **options))
    made, saved = events[-2:]
    assert isinstance(made, Progress)
    assert isinstance(saved, StateSaved)
    assert (saved.global_epoch, saved.step) == (2, made.steps)
    stopping = Stopping()
    whole = ended(finetune.train(spec, tmp_path / "whole", **options))
    rest = list(finetune.train(spec, tmp_path / "rest", resume=Resume(None, saved.state), **options))
    assert not any(isinstance(event, Progress) for event in rest)
    assert [one.checkpoint.sha256 for one in ended(rest)] == [whole[1].checkpoint.sha256]


def test_asked_to_stop_elsewhere_there_is_nothing_to_save(make, begin, tmp_path):
    stopping = Stopping()
    assert not stopping.ask()
    events = list(begin(make("a head on features, then everything", 1), tmp_path, stopping=stopping))
    assert not any(isinstance(event, StageStarted | StateSaved | StageEnded) for event in events)


def test_no_state_is_saved_of_a_loss_that_is_not_finite(job, begin, tmp_path):
    rates = {"schedule": {"name": "list", "values": [[0.05, 1], [1e6, 3]]}}
    stage = {"name": "all", "epochs": 4, "lr": rates, "optimizer": {"name": "sgd", "weight_decay": 10.0}}
    saved = []
    with pytest.raises(NonfiniteLoss, match=r"the checkpoint of epoch \d is kept"):
        saved.extend(begin(job(stage, checkpoints={"every_steps": 1}), tmp_path, keep_all=True))
    for path in tmp_path.glob("*.state.pt"):
        raw = torch.load(path, weights_only=True)["raw"] or {}
        assert all(tensor.isfinite().all() for tensor in raw.values())
