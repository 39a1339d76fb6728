"""Trained-looking networks of torchvision's and of our own, with checkpoints and a dataset of odd sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from finetune.backbones import Registry, backbone
from finetune.backbones import load as load_backbones
from finetune.checkpoint import save_weights, sha256_of
from finetune.export.exporter import export
from finetune.export.orders import Order, Wanted
from finetune.trained import TrainedModel, open_model

CLASSES = ("a_b*", "bee", "ant")
SPEC = {"dataset": {"path": "odd"}, "seed": 0}


class Choosy(nn.Module):
    """Decides by the numbers that go through it, which no graph can hold."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        colours = images.mean((2, 3))
        return self.head(colours) if colours.sum() > 0 else self.head(-colours)


class Forgetful(Choosy):
    """Answers otherwise when it is a graph: what a wrong export looks like."""

    def forward(self, images):
        return self.head(images.mean((2, 3)) * (1.5 if torch.compiler.is_exporting() else 1.0))


@pytest.fixture(scope="session")
def nets() -> Registry:
    """torchvision's, and two of our own that cannot be exported."""
    found = load_backbones(())
    for name, build in {"choosy": Choosy, "forgetful": Forgetful}.items():
        usual = found.find("resnet18").preprocessing.at(32)
        found.registered[name] = backbone(name=name, head="head", preprocessing=usual)(build)
    return found


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A data root with `odd`: smooth pictures of many sizes; two of its validation files are no images."""
    root: Path = tmp_path_factory.mktemp("photos")
    dice = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 4)):
        for name in CLASSES:
            folder = root / "odd" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                coarse = Image.fromarray(dice.integers(0, 256, (7, 9, 3), dtype=np.uint8))
                height, width = dice.integers(20, 180, 2).tolist()
                coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (root / "odd" / "val" / "bee" / "no.png").write_text("no image")
    (root / "odd" / "val" / "ant" / "empty.png").touch()
    return root


def _settle(network: nn.Module, head: nn.Module, crop: int) -> None:
    """Makes random weights give answers that differ from image to image, as trained ones do."""
    images = torch.randn(8, 3, crop, crop) * torch.rand(8, 3, 1, 1) * 3
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # takes the statistics of what it sees as they are
    with torch.no_grad():
        network.train()(images)
        outputs = network.eval()(images)
        if not isinstance(head, nn.Identity):
            head.get_parameter("weight").div_(outputs.std(0).mean())


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory, nets) -> Callable[..., Path]:
    """Writes the checkpoint of a network with random weights, as a run does."""

    def make(
        name: str = "resnet18", objective: str = "cross_entropy", crop: int = 48, outputs: int | None = 3
    ) -> Path:
        torch.manual_seed(1)
        row = nets.find(name)
        preprocessing = row.preprocessing.at(crop)
        network = row.make(outputs, crop)
        _settle(network, network.get_submodule(row.heads[0]), crop)
        about: dict[str, Any] = {
            "backbone": name,
            "backbone_options": row.options(crop),
            "objective": objective,
            "outputs": outputs,
            "heads": list(row.heads),
            "classes": list(CLASSES),
            "preprocessing": preprocessing.to_json(),
            "job": "job_1",
            "stage": "all",
            "global_epoch": 7,
            "val": {"loss": 0.25, "accuracy": None},
        }
        if objective == "binary_cross_entropy":
            about["thresholds"] = {"a_b*": 0.5, "bee": 0.25, "ant": 0.75}
        if objective == "triplet":
            about["normalize"] = True
        path: Path = tmp_path_factory.mktemp("checkpoint") / "epoch-00007.safetensors"
        save_weights(path, network, about)
        return path

    return make


@pytest.fixture(scope="session")
def order() -> Callable[..., Order]:
    """An order for a checkpoint; keywords replace its fields."""

    def make(weights: Path, wanted: Wanted, target: Path, **changes: Any) -> Order:
        fields = {
            "sha256": sha256_of(weights) if weights.exists() else "0" * 64,
            "checkpoint": "ckpt_1",
            "job": "job_1",
            "name": "ants & bees",
            "spec": SPEC,
            "best": True,
            "last": False,
            "ended": True,
        }
        return Order(weights=weights, target=target, wanted=wanted, **{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def bundle_of(order, photos, nets):
    """Exports a checkpoint into a folder; gives what the exporter answers, and the bundle."""

    def make(weights: Path, wanted: Wanted, folder: Path, **changes: Any):
        target = folder / f"ckpt_1-{wanted.file_name}.zip"
        return export(order(weights, wanted, target, **changes), photos, nets), target

    return make


@pytest.fixture(scope="session")
def opened(nets) -> Callable[[Path], TrainedModel]:
    return lambda weights: open_model(weights, nets)
