import dataclasses
from typing import Any

import pytest
import torch

import finetune
from finetune.checkpoint import Resume
from finetune.events import CheckpointFiles, EpochEnded, RunEnded, StageStarted, Warned

STAGES = [
    {
        "name": "head",
        "epochs": 2,
        "freeze": {"policy": "backbone"},
        "optimizer": {"name": "adamw"},
        "lr": {"schedule": {"name": "constant", "lr": 0.05}, "warmup_epochs": 0.7},
    },
    {
        "name": "top",
        "epochs": 9,
        "freeze": {"policy": "before", "module": "body.1"},
        "lr": {"schedule": {"name": "constant", "lr": 0.0}},
        "augmentation": "light",
        "sampler": "balanced",
        "early_stopping": {"metric": "val_accuracy", "patience": 2},
        "restore": "best",
    },
    {
        "name": "all",
        "epochs": 3,
        "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
        "lr": {
            "schedule": {"name": "cosine", "lr": 0.05, "end_lr": 0.001},
            "factors": [{"modules": ["head"], "factor": 3}],
            "warmup_epochs": 1.5,
        },
        "augmentation": "standard",
        "mix": "cutmix",
        "accumulate": 2,
        "ema": {"decay": 0.9},
        "early_stopping": {"metric": "val_loss", "patience": 2},
        "max_grad_norm": 1.0,
    },
]


@pytest.fixture
def spec(job):
    return job(*STAGES, head={"dropout": 0.3}, checkpoints={"keep_last": 2, "keep_best": 2})


@pytest.fixture
def begin(data_dir, registry):
    """Starts a run as another process would: with torch's generator in another state."""

    def start(spec, folder, resume=None, **options):
        torch.manual_seed(torch.seed() % 2**31)
        return finetune.train(
            spec, folder, data_dir=data_dir, registry=registry, device="cpu", resume=resume, **options
        )

    return start


def figures(record):
    """What must not depend on interruptions: everything but the times and the memory."""
    times = {"seconds": {}, "images_per_second": 0.0, "peak_memory_bytes": 0}
    return dataclasses.replace(record, **times)


@pytest.fixture
def whole(spec, begin, tmp_path):
    """The uninterrupted run: its epochs and its result."""
    events = list(begin(spec, tmp_path / "whole", keep_all=True))
    assert events[-1].result["epochs"] == 8  # 2, 3 of 9 as early stopping waits for 2, and 3
    return [event for event in events if isinstance(event, EpochEnded)], events[-1].result


def until_the_next_epoch(events):
    """The events up to the end of an epoch, after which the run is killed; True where it came to its end."""
    for event in events:
        if isinstance(event, EpochEnded):
            events.close()
            return event
        if isinstance(event, RunEnded):
            return event
    raise AssertionError("a run without an end")


def test_killed_after_every_epoch_a_run_ends_with_the_very_bytes_of_the_uninterrupted_one(
    spec, begin, whole, tmp_path
):
    epochs, result = whole
    resume: Resume | None = None
    best: CheckpointFiles | None = None
    for number, expected in enumerate(epochs):
        event = until_the_next_epoch(begin(spec, tmp_path / f"attempt-{number}", resume))
        assert figures(event.record) == figures(expected.record)
        assert event.checkpoint.sha256 == expected.checkpoint.sha256
        assert event.checkpoint.best == expected.checkpoint.best
        best = event.checkpoint if event.checkpoint.best else best
        assert best is not None
        resume = Resume(event.checkpoint.weights, event.checkpoint.state, best.weights, best.sha256)
    last = until_the_next_epoch(begin(spec, tmp_path / "attempt-last", resume))
    assert last.result == result


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_resumed_once_a_run_goes_on_to_its_end_in_another_folder(spec, begin, whole, tmp_path, killed_after):
    epochs, result = whole
    at = epochs[killed_after - 1].checkpoint
    events = list(begin(spec, tmp_path / "rest", Resume(at.weights, at.state), data_workers=2))
    rest = [event for event in events if isinstance(event, EpochEnded)]
    assert [figures(e.record) for e in rest] == [figures(e.record) for e in epochs[killed_after:]]
    assert [e.checkpoint.sha256 for e in rest] == [e.checkpoint.sha256 for e in epochs[killed_after:]]
    assert events[-1].result == result
    first = next(event for event in events if isinstance(event, StageStarted))
    assert (first.stage_index, first.epoch) == (rest[0].record.stage_index, rest[0].record.epoch)
    assert not any("may differ" in event.message for event in events if isinstance(event, Warned))


def test_the_thread_count_is_set_again(spec, begin, whole, tmp_path):
    at = whole[0][2].checkpoint
    try:
        torch.set_num_threads(2)
        events = list(begin(spec, tmp_path / "rest", Resume(at.weights, at.state)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
    last = [event for event in events if isinstance(event, EpochEnded)][-1]
    assert last.checkpoint.sha256 == whole[0][-1].checkpoint.sha256


def test_a_resume_on_something_else_says_so_in_an_event(spec, begin, whole, tmp_path):
    at = whole[0][-2].checkpoint
    state = torch.load(at.state, weights_only=True)
    state["surroundings"] |= {"torch": "1.0", "device": "cuda"}
    torch.save(state, at.state)
    events = list(begin(spec, tmp_path / "rest", Resume(at.weights, at.state)))
    messages = [event.message for event in events if isinstance(event, Warned)]
    assert (
        f"the run began with torch 1.0 and goes on with {torch.__version__}: its bytes may differ" in messages
    )
    assert "the run began with device cuda and goes on with cpu: its bytes may differ" in messages


RATES = {"schedule": {"name": "linear", "lr": 0.05, "end_lr": 0.001}}
MORE: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "average": (
        [{"name": "all", "epochs": 3, "lr": RATES, "ema": {"decay": 0.8}, "augmentation": "light"}],
        {"checkpoints": {"weights": "ema"}},
    ),
    "best average of a stage that stops early": (
        [
            {
                "name": "one",
                "epochs": 9,
                "lr": {"schedule": {"name": "list", "values": [[0.05, 1], [30.0, 8]]}},
                "ema": {"decay": 0.5},
                "early_stopping": {"metric": "val_loss", "patience": 2},
                "restore": "best",
            },
            {"name": "two", "epochs": 2, "lr": RATES},
        ],
        {"checkpoints": {"weights": "ema", "metric": "val_loss"}},
    ),
    "fp16": ([{"name": "all", "epochs": 3, "lr": RATES}], {"precision": "fp16"}),
    "lamb, which counts its steps by group": (
        [{"name": "all", "epochs": 3, "lr": RATES, "optimizer": {"name": "lamb"}}],
        {},
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_killed_after_any_epoch_these_end_with_the_same_bytes_too(job, begin, tmp_path, monkeypatch, case):
    # So large that the first steps overflow and the scale falls: a scale that is not kept would show.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    state = scaler.state_dict()

    def overflowing(compute):
        if compute.precision != "fp16":
            return torch.amp.GradScaler("cpu", enabled=False)
        scaler = torch.amp.GradScaler("cpu")
        scaler.load_state_dict(state)
        return scaler

    monkeypatch.setattr("finetune.device.Compute.gradient_scaler", overflowing)
    stages, fields = MORE[case]
    spec = job(*stages, **fields)
    whole = [e for e in begin(spec, tmp_path / "whole", keep_all=True) if isinstance(e, EpochEnded)]
    for number, at in enumerate(whole[:-1]):
        resume = Resume(at.checkpoint.weights, at.checkpoint.state)
        rest = [e for e in begin(spec, tmp_path / str(number), resume) if isinstance(e, EpochEnded)]
        assert [figures(e.record) for e in rest] == [figures(e.record) for e in whole[number + 1 :]]
        assert [e.checkpoint.sha256 for e in rest] == [e.checkpoint.sha256 for e in whole[number + 1 :]]
