"""Tiny images and tiny networks, so that whole runs take a second."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import finetune
from finetune.backbones import Registry, backbone
from finetune.data.preprocessing import Preprocessing
from finetune.events import EpochEnded, RunEnded, Warned

PREPROCESSING = Preprocessing(resize=20, crop=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
HUES = {"blue": (60, 90, 190), "green": (70, 170, 80), "red": (180, 80, 70), "grey": (120, 120, 120)}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


class Tiny(nn.Module):
    """Three convolutions with BatchNorm, dropout, a linear head."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.drop(self.body(self.stem(images)).mean((2, 3))))


class Restless(Tiny):
    """Its stem counts the images that go by, in a buffer: something that freezing promises not to happen."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.stem.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        if images.device.type != "meta":
            self.stem.get_buffer("seen").add_(len(images))
        return super().forward(images)


class Poisoned(Tiny):
    """Gives NaN in its fourth training step."""

    steps = 0

    def forward(self, images):
        self.steps += self.training
        logits = super().forward(images)
        return logits * float("nan") if self.training and self.steps == 4 else logits


class Overflowing(Tiny):
    """Gives logits that no validation loss is finite for."""

    def forward(self, images):
        logits = super().forward(images)
        return logits if self.training else logits * float("inf")


class WithAuxiliary(nn.Module):
    """Linear in the mean colour; in training mode with auxiliary logits."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.aux = nn.Linear(3, num_classes)

    def forward(self, images):
        colour = images.mean((2, 3))
        return (self.head(colour), self.aux(colour)) if self.training else self.head(colour)


@pytest.fixture(scope="session")
def registry():
    """The tiny networks by name."""
    rows = {
        name: backbone(name=name, head="head", preprocessing=PREPROCESSING, containers=("body",))(build)
        for name, build in {
            "tiny": Tiny,
            "restless": Restless,
            "poisoned": Poisoned,
            "overflowing": Overflowing,
        }.items()
    }
    from finetune.backbones import Backbone

    rows["with_auxiliary"] = Backbone(
        "with_auxiliary", WithAuxiliary, ("head", "aux"), PREPROCESSING, "registered", aux_weight=0.3
    )
    return Registry(rows)


def write_images(folder: Path, hue: str, count: int, size: tuple[int, int] = (28, 24)) -> None:
    """Noisy pictures of a hue; the same for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(sum(map(ord, f"{folder.parent.name}/{hue}")))
    for number in range(count):
        pixels = np.array(HUES[hue]) + noise.randint(-60, 60, (size[1], size[0], 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / f"{number:02d}.png")


@pytest.fixture(scope="session")
def pictures():
    """Writes noisy pictures of a hue into a folder."""
    return write_images


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data root with `hues` (24 and 9 images of three classes, with a val split) and `loose` (without)."""
    root = tmp_path_factory.mktemp("data")
    for hue in ("blue", "green", "red"):
        write_images(root / "hues" / "train" / hue, hue, 8)
        write_images(root / "hues" / "val" / hue, hue, 3)
        write_images(root / "loose" / hue, hue, 10)
    return root


STAGES = [
    {
        "name": "head",
        "epochs": 2,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.1}},
    },
    {
        "name": "all",
        "epochs": 2,
        "lr": {"schedule": {"name": "linear", "lr": 0.05, "end_lr": 0.0}},
        "augmentation": "standard",
    },
]


def make_job(*stages, **fields):
    """A spec for the tiny network on `hues`: head, then everything; or these stages."""
    return {
        "dataset": {"path": "hues"},
        "backbone": {"name": "tiny", "weights": None},
        "stages": copy.deepcopy(list(stages) or STAGES),
        "batch_size": 8,
        "precision": "fp32",
        **fields,
    }


@pytest.fixture(scope="session")
def job():
    """Makes specs for the tiny network on `hues`."""
    return make_job


@pytest.fixture
def run(data_dir, registry):
    """Runs a job to its end; gives all its events. It must not depend on torch's generator."""

    def run_job(spec, folder, **options):
        torch.manual_seed(random.randrange(2**31))
        settings = {"data_dir": data_dir, "registry": registry, "device": "cpu", **options}
        return list(finetune.train(spec, folder, **settings))

    return run_job


class Told:
    """Looks into a run's events."""

    @staticmethod
    def records(events):
        return [event.record for event in events if isinstance(event, EpochEnded)]

    @staticmethod
    def checkpoints(events):
        return [event.checkpoint for event in events if isinstance(event, EpochEnded)]

    @staticmethod
    def warnings(events):
        return [event.message for event in events if isinstance(event, Warned)]

    @staticmethod
    def result(events):
        return next(event.result for event in events if isinstance(event, RunEnded))


@pytest.fixture(scope="session")
def told():
    """Looks into a run's events."""
    return Told
