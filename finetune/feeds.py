"""What a stage's epochs run over: images through the whole network, or features through the head alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from finetune.data.ahead import ahead, copied_ahead
from finetune.data.loading import Batch, Loader
from finetune.data.preprocessing import Preprocessing
from finetune.data.sampling import Batches, Sampling, batches_of
from finetune.features import compute

Made = TypeVar("Made")
Inputs = Iterator[tuple[Tensor, Tensor]]  # (inputs, labels) on the device


class Labelled(NamedTuple):
    """A training batch on the device. `weights` say how much each image counts, float32 (N,); None: alike."""

    inputs: Tensor
    labels: Tensor
    weights: Tensor | None = None


class Feed(Protocol):
    """Gives a stage's batches, and the function from inputs to the network's outputs."""

    @property
    def forward(self) -> Callable[[Tensor], Tensor]:
        """From inputs to outputs."""

    def train(self, epoch: int) -> Iterator[Labelled]:
        """The training batches of an epoch (0-based), in its order and with its views."""

    def val(self) -> Inputs:
        """The validation batches."""


@dataclass(frozen=True)
class Source:
    """Images of a stage on their way to the device."""

    loader: Loader
    preprocessing: Preprocessing
    device: torch.device

    def place(self, batches: Iterator[Batch]) -> Inputs:
        """Moves batches to the device and turns them into what the network takes, one batch ahead."""
        if self.device.type == "cuda":
            return map(self._prepared, copied_ahead(self._ahead(batches), self.device))
        return self._ahead(map(self._prepared, batches))

    def _prepared(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images = self.preprocessing.normalize(batch.images.to(self.device))
        return images.contiguous(memory_format=torch.channels_last), batch.labels.to(self.device)

    def _ahead(self, made: Iterator[Made]) -> Iterator[Made]:
        return made if self.loader.workers else ahead(made)  # data workers are ahead by themselves


def weighed(inputs: Inputs, batches: Batches, weights: Tensor | None) -> Iterator[Labelled]:
    """Training inputs with the weights of their images, which `batches` names.

    The weights, one for each image of the split, lie in the CPU's memory: picking there waits for no device.
    """
    for (given, labels), batch in zip(inputs, batches, strict=True):
        own = None if weights is None else weights[batch].to(labels.device, non_blocking=True)
        yield Labelled(given, labels, own)


class ImageFeed:
    """Images through the whole network."""

    def __init__(
        self,
        model: nn.Module,
        train: Source,
        val: Source,
        sampling: Sampling,
        seed: int,
        stage_index: int,
    ) -> None:
        self.forward: Callable[[Tensor], Tensor] = model
        self._train, self._val, self._sampling = train, val, sampling
        self._seed, self._stage_index = seed, stage_index
        self._weights = train.loader.weights()

    def train(self, epoch: int) -> Iterator[Labelled]:
        """See `Feed`."""
        batches = self._sampling.batches(epoch)
        drawn = self._train.loader.drawn(batches, self._seed, self._stage_index, epoch)
        return weighed(self._train.place(drawn), batches, self._weights)

    def val(self) -> Inputs:
        """See `Feed`."""
        return self._val.place(self._val.loader.in_order())


def features_of(model: nn.Module, head: str, source: Source) -> Tensor:
    """What the head takes of each image of a source, in the dataset's order. See `compute`."""
    return compute(model, head, (images for images, _ in source.place(source.loader.in_order())))


class FeatureFeed:
    """Features, computed once at the stage's start, through the head alone."""

    def __init__(
        self,
        model: nn.Module,
        head: str,
        train: Source,
        val: Source,
        sampling: Sampling,
        features: Callable[[nn.Module, str, Source], Tensor] = features_of,
    ) -> None:
        self.forward: Callable[[Tensor], Tensor] = model.get_submodule(head)
        self._batch_size, self._sampling = train.loader.batch_size, sampling
        self._train = features(model, head, train), train.loader.labels().to(train.device)
        self._weights = train.loader.weights()
        self._val = features(model, head, val), val.loader.labels().to(val.device)

    @staticmethod
    def _pick(split: tuple[Tensor, Tensor], batches: Batches) -> Inputs:
        features, labels = split
        for batch in batches:
            index = torch.tensor(batch, device=features.device)
            yield features[index], labels[index]

    def train(self, epoch: int) -> Iterator[Labelled]:
        """See `Feed`."""
        batches = self._sampling.batches(epoch)
        return weighed(self._pick(self._train, batches), batches, self._weights)

    def val(self) -> Inputs:
        """See `Feed`."""
        return self._pick(self._val, batches_of(range(len(self._val[1])), self._batch_size))
