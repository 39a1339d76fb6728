"""What a stage's epochs run over: images through the whole network, or features through the rest of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from finetune.data.ahead import ahead, copied_ahead
from finetune.data.loading import Batch, Loader
from finetune.data.preprocessing import Preprocessing
from finetune.data.sampling import Batches, Sampling, batches_of
from finetune.rows import Rows

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

    def train(self, epoch: int, first: int = 0) -> Iterator[Labelled]:
        """The training batches of an epoch, from number `first` on (both 0-based), with the epoch's views."""

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

    def train(self, epoch: int, first: int = 0) -> Iterator[Labelled]:
        """See `Feed`."""
        batches = self._sampling.batches(epoch)
        drawn = self._train.loader.drawn(batches, self._seed, self._stage_index, epoch, first)
        return weighed(self._train.place(drawn), batches[first:], self._weights)

    def val(self) -> Inputs:
        """See `Feed`."""
        return self._val.place(self._val.loader.in_order())


class FeatureFeed:
    """Features, computed once, through the part of the network behind them.

    `views` says which view of each image an epoch's batches have.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        train: tuple[Rows, Source],
        val: tuple[Rows, Source],
        sampling: Sampling,
        views: Callable[[int, Batches], list[list[int]]],
    ) -> None:
        self.forward = forward
        self._sampling, self._views = sampling, views
        self._train, self._val = (
            (rows, source.loader.labels().to(source.device)) for rows, source in (train, val)
        )
        self._weights = train[1].loader.weights()
        self._val_batches = batches_of(range(val[0].count), val[1].loader.batch_size)

    @staticmethod
    def _pick(split: tuple[Rows, Tensor], batches: Batches, views: list[list[int]]) -> Inputs:
        rows, labels = split
        sizes = [len(batch) for batch in batches]
        images = [image for batch in batches for image in batch]
        places = rows.places(images, [view for batch in views for view in batch])
        indices = torch.tensor(images).to(labels.device, non_blocking=True)
        for here, index in zip(torch.split(places, sizes), torch.split(indices, sizes), strict=True):
            yield rows.pick(here), labels[index]

    def train(self, epoch: int, first: int = 0) -> Iterator[Labelled]:
        """See `Feed`."""
        batches = self._sampling.batches(epoch)
        views = self._views(epoch, batches)[first:]
        picked = self._pick(self._train, batches[first:], views)
        return weighed(picked, batches[first:], self._weights)

    def val(self) -> Inputs:
        """See `Feed`."""
        return self._pick(self._val, self._val_batches, [[0] * len(batch) for batch in self._val_batches])
