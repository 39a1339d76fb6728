"""The network of a run: which head it gets, what it starts from, and building it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from finetune.backbones import Backbone, Registry, skeleton
from finetune.backbones.weights import Source, copy_into, differences, find_source
from finetune.data.preprocessing import Preprocessing
from finetune.errors import WeightsIncompatible
from finetune.head import Head, decide, drop_before
from finetune.modules import blocks, within
from finetune.recipes import resolve
from finetune.seeds import derive
from finetune.sizes import sizes_of
from finetune.spec.job import JobSpec, ResolvedSpec, objective_of


@dataclass(frozen=True)
class Blueprint:
    """A network that is decided and not yet built."""

    backbone: Backbone
    source: Source | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing  # evaluation's, which travels with the checkpoints
    training_preprocessing: Preprocessing
    head: Head

    @property
    def identity(self) -> tuple[str, dict[str, int]]:
        """Which network it is, whatever its weights and its classes."""
        return self.backbone.name, self.backbone.options(self.preprocessing.crop)

    @property
    def skeleton(self) -> nn.Module:
        """Its structure on the meta device; look, do not change."""
        return skeleton(self.backbone, self.head.outputs, self.preprocessing.crop)


def resolve_with(registry: Registry, spec: JobSpec) -> ResolvedSpec:
    """The spec with its recipe expanded, for which some recipes need the network's blocks.

    Raises:
        SpecInvalid: the recipe needs a backbone that there is not.
    """

    def blocks_of_backbone() -> list[str]:
        backbone = registry.find(spec.backbone.name)
        model = skeleton(backbone, backbone.num_classes, backbone.preprocessing.crop)
        found = blocks(model, backbone.containers, backbone.heads)
        # A branch to an auxiliary head hangs beside the way from input to output, and is no step on it.
        return [block for block in found if not within(backbone.heads[1:], [block])]

    return resolve(spec, blocks_of_backbone)


def preparations(
    spec: JobSpec, registry: Registry, weights_dir: Path, job_file: Path | None
) -> tuple[Preprocessing, Preprocessing]:
    """How images are prepared for evaluation and for training, which no data are needed to know.

    Raises:
        SpecInvalid, WeightsNotFound, WeightsIncompatible: as `find_source` and `sizes_of` say.
    """
    backbone = registry.find(spec.backbone.name)
    return sizes_of(spec, backbone, find_source(spec.backbone, backbone, weights_dir, job_file))


def draw(
    spec: JobSpec, registry: Registry, classes: tuple[str, ...], weights_dir: Path, job_file: Path | None
) -> Blueprint:
    """Decides on head and preprocessing, and holds the weights' names and shapes against the network.

    Raises:
        SpecInvalid, WeightsNotFound, WeightsIncompatible: as `find_source` and `sizes_of` say, or the weights
            do not fit.
    """
    backbone = registry.find(spec.backbone.name)
    source = find_source(spec.backbone, backbone, weights_dir, job_file)
    evaluation, training = sizes_of(spec, backbone, source)
    head = decide(objective_of(spec.objective, spec.recipe), spec.head.keep, classes, source)
    blueprint = Blueprint(backbone, source, classes, evaluation, training, head)
    if source and source.shapes is not None:
        wrong = differences(blueprint.skeleton, backbone.heads, head.whole, head.rows, source.shapes, source)
        if wrong:
            raise WeightsIncompatible(wrong, "backbone.weights")
    return blueprint


def build(blueprint: Blueprint, seed: int, dropout: float) -> nn.Module:
    """The network with its weights, on the CPU. Random tensors are drawn from the seed.

    Raises:
        WeightsNotFound, WeightsIncompatible: as `copy_into` says.
    """
    backbone, head = blueprint.backbone, blueprint.head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        model = backbone.make(head.outputs, blueprint.preprocessing.crop)
    if blueprint.source:
        copy_into(model, backbone.heads, head.whole, head.rows, blueprint.source)
    for name in backbone.heads if dropout else ():
        drop_before(model.get_submodule(name), dropout)
    return model


def logits_and_auxiliary(outputs: Tensor | tuple[Tensor | None, ...]) -> tuple[Tensor, list[Tensor]]:
    """A network's logits (N, classes), and those of its auxiliary heads in training mode."""
    if isinstance(outputs, Tensor):
        return outputs, []
    logits, *auxiliary = outputs
    assert logits is not None, "a network gives its logits first"
    return logits, [output for output in auxiliary if output is not None]
