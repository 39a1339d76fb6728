"""The networks of `start.py` and `progress.py`. Attempts import this: it loads nothing that they have not."""

import json
import os
import time
from collections import OrderedDict
from pathlib import Path

import torchvision
from torch import nn

from finetune.backbones import backbone as register
from finetune.data.preprocessing import Preprocessing

LOG = "THAW_BENCHMARK_LOG"  # the variable with the file that is written to
HALF = (0.5, 0.5, 0.5)
SMALL = Preprocessing(resize=64, crop=64, mean=HALF, std=HALF)


@register(name="timed_resnet18", head="fc", preprocessing=SMALL)
def network(classes: int) -> nn.Module:
    """A ResNet-18 that writes down how long it took to build, and when its head is first trained."""
    begun = time.time()
    model: nn.Module = torchvision.models.resnet18(num_classes=classes)
    if next(model.parameters()).is_meta or LOG not in os.environ:
        return model
    _note("build", time.time() - begun)
    stepped = False

    def look(head: nn.Module, args: object) -> None:
        nonlocal stepped
        if head.training and not stepped:
            stepped = True
            _note("step", time.time())

    model.get_submodule("fc").register_forward_pre_hook(look)
    return model


def _note(what: str, value: float) -> None:
    with Path(os.environ[LOG]).open("a") as file:
        file.write(json.dumps([what, value]) + "\n")


@register(name="few_layers", head="head", preprocessing=SMALL)
def few_layers(classes: int) -> nn.Module:
    """A network whose steps take a millisecond or two."""
    layers = {
        "body": nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        "mean": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(32, classes),
    }
    return nn.Sequential(OrderedDict(layers))
