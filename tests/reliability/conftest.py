"""Real workers that can be started and killed by the hundred, on jobs that take a second."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.store import jobs
from app.store.checkpoints import list_checkpoints
from app.store.database import Database
from app.store.epochs import list_epochs
from app.store.records import Checkpoint
from app.store.states import ENDED
from finetune.checkpoint import sha256_of
from finetune.recipes import resolve
from finetune.spec.job import JobSpec

ZYGOTE = Path(__file__).with_name("zygote.py")

# Networks that go wrong: each in a way that a machine or a user can make happen, too.
PERILOUS = """
import os
import signal
import time

import torch

from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet


class Greedy(TinyNet):
    most = 7

    def step(self, images):
        if self.training and len(images) > self.most:
            torch.empty(2**50, dtype=torch.uint8)


class Greedier(Greedy):
    most = 2


class Deadly(TinyNet):
    def step(self, images):
        if self.training:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


class Hanging(TinyNet):
    def step(self, images):
        self.steps += self.training
        if self.training:
            time.sleep(600 if self.steps == 4 else 0.25)


class HangingFeatures(TinyNet):
    def __init__(self, classes):
        super().__init__(classes)
        self.body.register_forward_hook(lambda module, inputs, outputs: time.sleep(600))


class Hefty(TinyNet):
    def __init__(self, classes):
        super().__init__(classes)
        self.unused = torch.nn.Linear(1000, 500)


def network(name, kind):
    return register(name=name, head="head", preprocessing=SMALL)(kind)


greedy, greedier = network("greedy", Greedy), network("greedier", Greedier)
deadly, hanging = network("deadly", Deadly), network("hanging", Hanging)
hanging_features, hefty = network("hanging_features", HangingFeatures), network("hefty", Hefty)
"""
PERILS = ("greedy", "greedier", "deadly", "hanging", "hanging_features", "hefty")

STAGES: list[dict[str, Any]] = [
    {
        "name": "head",
        "epochs": 2,
        "freeze": {"policy": "backbone"},
        "optimizer": {"name": "adamw"},
        "lr": {"schedule": {"name": "constant", "lr": 0.05}, "warmup_epochs": 0.5},
        "augmentation": "light",
    },
    {
        "name": "all",
        "epochs": 12,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.001},
        "lr": {"schedule": {"name": "cosine", "lr": 0.1, "end_lr": 0.001}, "warmup_epochs": 1.5},
        "augmentation": "standard",
        "mix": "mixup",
        "ema": {"decay": 0.8},
        "early_stopping": {"metric": "val_accuracy", "patience": 3},
    },
]


class Place:
    """A home whose workers are forked from a process with torch, and the store that they write to."""

    def __init__(self, house: Any) -> None:
        self.home, self.artifacts = house.home, house.artifacts
        self.operations = house.home / "operations.jsonl"
        self.db = Database(house.database_url)
        with (house.root / "zygote.log").open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, str(ZYGOTE)],
                cwd=house.root,
                env=house.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def work(self, plan: dict[str, Any] | None = None) -> int:
        """Starts a worker, whose operations fail as planned; gives its process id."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(plan) + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())

    def post(self, stages: list[dict[str, Any]] | None = None, **changes: Any) -> str:
        """Stores a job; keywords replace fields of its spec."""
        body = {
            "dataset": {"path": "shapes"},
            "backbone": {"name": "tiny_net", "weights": None},
            "head": {"dropout": 0.3},
            "stages": stages or STAGES,
            "batch_size": 4,
            "precision": "fp32",
            "checkpoints": {"every_steps": 2},
            "max_attempts": 100,
            **changes,
        }
        spec = JobSpec.model_validate(body)
        resolved = resolve(spec, list).model_dump(mode="json")
        job, _ = jobs.create_job(self.db, spec=body, resolved_spec=resolved, max_attempts=spec.max_attempts)
        return job.id

    def look(self, job: str) -> Any:
        return jobs.get_job(self.db, job)

    def ended(self, job: str) -> bool:
        """Whether a job has ended."""
        return self.look(job).status in ENDED

    def files(self, checkpoint: Checkpoint) -> tuple[Path, Path]:
        """The weights and the resume state of a checkpoint."""
        assert checkpoint.state_path is not None
        return self.artifacts / checkpoint.path, self.artifacts / checkpoint.state_path

    def outcome(self, job: str) -> SimpleNamespace:
        """What must not depend on interruptions: the epochs' figures, and the SHA-256 of what was trained.

        Holds every checkpoint's files against their rows.
        """
        numbers, figures = [], []
        for epoch in list_epochs(self.db, job):
            numbers.append(epoch.global_epoch)
            figures.append({key: epoch.record.get(key) for key in ("stage", "lr", "train", "val", "val_ema")})
        kept = list_checkpoints(self.db, job)
        for checkpoint in kept:
            weights, state = self.files(checkpoint)
            assert sha256_of(weights) == checkpoint.sha256
            assert sha256_of(state) == checkpoint.state_sha256
        digest = digest_of(*self.files(kept[-1])) if kept else None
        return SimpleNamespace(numbers=numbers, figures=figures, digest=digest)

    def close(self) -> None:
        self.db.dispose()
        with suppress(ProcessLookupError):
            os.killpg(self._zygote.pid, signal.SIGKILL)
        self._zygote.communicate()


def digest_of(weights: Path, state: Path) -> str:
    """The SHA-256 of a checkpoint's weights, buffers, optimizer, average and standing."""
    digest = hashlib.sha256()
    content = torch.load(state, weights_only=True)
    _feed(digest, load_file(weights))
    _feed(digest, [content["raw"], content["stepper"], content["standing"], content["stage_best"]])
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value):
            digest.update(repr(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        for one in value:
            _feed(digest, one)
    else:
        digest.update(repr(value).encode())


@pytest.fixture(scope="session")
def make_place(make_house, draw_shapes) -> Iterator[Callable[..., Place]]:
    """Makes places; keywords are settings of their workers."""
    places = []

    def make(**settings: object) -> Place:
        house = make_house(**{"lease_seconds": 1.5, "grace_seconds": 10, "cache_bytes": 0, **settings})
        (house.root / "perilous.py").write_text(PERILOUS)
        house.settings["THAW_BACKBONES"] += "".join(f",perilous:{name}" for name in PERILS)
        draw_shapes(house.data / "shapes", train=8, val=4)
        places.append(Place(house))
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture(scope="session")
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()


@pytest.fixture
def worker(place: Place, proc: SimpleNamespace, until: Callable[..., Any]) -> Iterator[Callable[..., int]]:
    """Starts workers of the place that end with the test."""
    started = []

    def start(plan: dict[str, Any] | None = None) -> int:
        started.append(place.work(plan))
        return started[-1]

    yield start
    for pid in started:
        end(pid)
        until(lambda pid=pid: not proc.alive(pid), 15, "the worker has ended")


def end(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Sends a signal to a process, if it is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.fixture(scope="session")
def uninterrupted(place: Place, until: Callable[..., Any]) -> SimpleNamespace:
    """What comes of the job that nothing happens to."""
    pid = place.work()
    job = place.post()
    until(lambda: place.ended(job), 60, "the job has ended")
    end(pid)
    assert place.look(job).status == "succeeded", place.look(job).error
    whole = place.outcome(job)
    # Early stopping has ended it: it has waited, and would go wrong if it did not remember for how long.
    assert whole.numbers == list(range(1, len(whole.numbers) + 1))
    assert 6 <= len(whole.numbers) < sum(stage["epochs"] for stage in STAGES)
    return whole
