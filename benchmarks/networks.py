"""The network of the work, with random weights or a file's, and what it wants of an image."""

import importlib
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from benchmarks.work import IMAGENET, Work

Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Network:
    """A network, the name of its head, and the mean and deviation of the images that it takes."""

    model: nn.Module
    head: str
    mean: Colours
    std: Colours

    def parameters(self, stage: str) -> list[nn.Parameter]:
        """What a stage trains."""
        return list((self.model.get_submodule(self.head) if stage == "head" else self.model).parameters())

    def freeze(self, stage: str) -> None:
        """As the tutorial does it: no gradient for what the stage does not train, and nothing else."""
        self.model.requires_grad_(stage != "head")
        self.model.get_submodule(self.head).requires_grad_(True)


def build(work: Work, classes: int) -> Network:
    """Builds it. With a weights file all but the head is the file's."""
    torch.manual_seed(work.seed)
    network = _registered(work, classes) if ":" in work.network else _of_torchvision(work, classes)
    if work.weights is not None:
        from safetensors.torch import load_file

        missing = network.model.load_state_dict(load_file(work.weights), strict=False)
        wrong = [name for name in missing.missing_keys if not name.startswith(f"{network.head}.")]
        counts = "num_batches_tracked"  # no weight: older files do without
        if missing.unexpected_keys or [name for name in wrong if not name.endswith(counts)]:
            raise ValueError(f"{work.weights} is not of {work.network}: {missing}")
    return network


def _of_torchvision(work: Work, classes: int) -> Network:
    from torchvision.models import get_model

    model = get_model(work.network, weights=None, num_classes=classes)
    head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    return Network(model, head, *IMAGENET)


def _registered(work: Work, classes: int) -> Network:
    module, _, attribute = work.network.partition(":")
    row = getattr(importlib.import_module(module), attribute)
    model = cast(nn.Module, row.build(classes))
    return Network(model, row.heads[0], row.preprocessing.mean, row.preprocessing.std)


def name_of(work: Work) -> str:
    """What a spec calls the network."""
    if ":" not in work.network:
        return work.network
    module, _, attribute = work.network.partition(":")
    return str(getattr(importlib.import_module(module), attribute).name)
