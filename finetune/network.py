"""The network of a run: which head it gets, what it starts from, and building it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's usual name

from finetune.backbones import Backbone, Registry, skeleton
from finetune.backbones.weights import Source, copy_into, differences, find_source
from finetune.data.preprocessing import Preprocessing
from finetune.errors import WeightsIncompatible
from finetune.seeds import derive
from finetune.spec.job import JobSpec


@dataclass(frozen=True)
class Blueprint:
    """A network that is decided and not yet built."""

    backbone: Backbone
    source: Source | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    keeps_head: bool
    head_reason: str

    @property
    def identity(self) -> tuple[str, dict[str, int]]:
        """Which network it is, whatever its weights and its classes."""
        return self.backbone.name, self.backbone.options(self.preprocessing.crop)

    @property
    def skeleton(self) -> nn.Module:
        """Its structure on the meta device; look, do not change."""
        return skeleton(self.backbone, len(self.classes), self.preprocessing.crop)


def draw(
    spec: JobSpec, registry: Registry, classes: tuple[str, ...], weights_dir: Path, job_file: Path | None
) -> Blueprint:
    """Decides on head and preprocessing, and holds the weights' names and shapes against the network.

    Raises:
        SpecInvalid, WeightsNotFound, WeightsIncompatible: as `find_source` says, or the weights do not fit.
    """
    backbone = registry.find(spec.backbone.name)
    source = find_source(spec.backbone, backbone, weights_dir, job_file)
    usual = source.preprocessing if source and source.preprocessing else backbone.preprocessing
    keeps_head, reason = _keeps_head(source, classes, spec.head.keep)
    blueprint = Blueprint(backbone, source, classes, usual.at(spec.image_size), keeps_head, reason)
    if source and source.shapes is not None:
        wrong = differences(blueprint.skeleton, backbone.heads, keeps_head, source.shapes, source)
        if wrong:
            raise WeightsIncompatible(wrong, "backbone.weights")
    return blueprint


def _keeps_head(source: Source | None, classes: tuple[str, ...], keep: str) -> tuple[bool, str]:
    if source is None:
        return False, "the network starts from random weights"
    if keep == "never":
        return False, 'head.keep is "never"'
    if source.classes is None:
        return False, "the weights do not say which classes their head knows"
    if source.classes != classes:
        return False, "the weights' head knows other classes"
    return True, "the weights' head knows the same classes"


def build(blueprint: Blueprint, seed: int, dropout: float) -> nn.Module:
    """The network with its weights, on the CPU. Random tensors are drawn from the seed.

    Raises:
        WeightsNotFound, WeightsIncompatible: as `copy_into` says.
    """
    backbone = blueprint.backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        model = backbone.make(len(blueprint.classes), blueprint.preprocessing.crop)
    if blueprint.source:
        copy_into(model, backbone.heads, blueprint.keeps_head, blueprint.source)
    if dropout:
        drop_before(model.get_submodule(backbone.heads[0]), dropout)
    return model


def drop_before(head: nn.Module, p: float) -> None:
    """Dropout on what the head takes, while the head is in training mode.

    A hook and not a module: the names of the weights stay those of the backbone, which any torchvision loads.
    """

    def drop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(args[0], p, module.training), *args[1:])

    head.register_forward_pre_hook(drop)


def logits_and_auxiliary(outputs: Tensor | tuple[Tensor | None, ...]) -> tuple[Tensor, list[Tensor]]:
    """A network's logits (N, classes), and those of its auxiliary heads in training mode."""
    if isinstance(outputs, Tensor):
        return outputs, []
    logits, *auxiliary = outputs
    assert logits is not None, "a network gives its logits first"
    return logits, [output for output in auxiliary if output is not None]
