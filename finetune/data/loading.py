"""Batches: the order from (seed, stage, epoch), the views from (seed, stage, epoch, sample index).

A view comes with the seed that all of it depends on, so the number of data workers changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from finetune.data.augmentation import View
from finetune.data.dataset import Sample, weights_of
from finetune.data.decoding import decode
from finetune.data.sampling import Batches, batches_of
from finetune.errors import DatasetInvalid
from finetune.seeds import derive


@dataclass(frozen=True)
class Batch:
    """Images uint8 (N, 3, H, W); labels int64 (N,), or float32 (N, classes) of 0 and 1 for several each."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same there; where it is pinned, the copy is waited for by nobody."""
        return Batch(self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU copies from by itself."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory())


Key = tuple[int, int]  # (sample index, seed of its view)
Read = Callable[[Path], Tensor]  # a file → uint8 (3, H, W)


class Views(TorchDataset[Batch]):
    """Batches of samples as views, asked for by keys."""

    def __init__(
        self, samples: Sequence[Sample], view: View, classes: int, read: Read = decode, pin: bool = False
    ) -> None:
        self._samples, self._view, self._classes = samples, view, classes
        self._read, self._pin = read, pin

    def __getitem__(self, keys: Sequence[Key]) -> Batch:
        """The batch, channels last in memory."""
        images = torch.empty(0)
        for row, (index, seed) in enumerate(keys):
            view = self._view(self._read(self._samples[index].path), seed)
            if row == 0:
                images = torch.empty(
                    (len(keys), *view.shape[1:], view.shape[0]), dtype=view.dtype, pin_memory=self._pin
                ).permute(0, 3, 1, 2)
            images[row] = view
        labels = label_tensor([self._samples[index].label for index, _ in keys], self._classes)
        return Batch(images, labels.pin_memory() if self._pin else labels)


class _Cursor:
    """A batch sampler that is told before each pass what to give, as data workers outlive a pass."""

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Loader:
    """Gives the batches of one pass after another over the same samples and views.

    Where samples have several labels each, it is to be told how many `classes` there are. Without `workers`
    batches are made when they are asked for; with them, processes make some ahead.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        view: View,
        batch_size: int,
        workers: int,
        pin: bool,
        classes: int = 0,
        read: Read = decode,
    ) -> None:
        self.count = len(samples)
        self.samples, self.view, self._classes = samples, view, classes
        self.batch_size, self.workers = batch_size, workers
        self._cursor = _Cursor()
        self._views = Views(samples, view, classes, read, pin and not workers)
        self._loader = _by_processes(self._views, self._cursor, workers, pin) if workers else None

    def labels(self) -> Tensor:
        """The labels of all samples in the dataset's order, as in a batch."""
        return label_tensor([sample.label for sample in self.samples], self._classes)

    def weights(self) -> Tensor | None:
        """How much each sample counts in the training loss, float32 (N,); None where all count the same."""
        weights = weights_of(self.samples)
        return None if weights is None else torch.tensor(weights)

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in the dataset's order."""
        return self.of(range(self.count))

    def of(self, indices: Sequence[int]) -> Iterator[Batch]:
        """These samples in this order."""
        return self._give([[(i, 0) for i in batch] for batch in batches_of(indices, self.batch_size)])

    def drawn(self, batches: Batches, seed: int, stage: int, epoch: int, first: int = 0) -> Iterator[Batch]:
        """These batches with the views of that epoch, from number `first` on.

        An image that stands twice has two views.
        """
        times: Counter[int] = Counter()
        keys: list[list[Key]] = []
        for batch in batches:
            keys.append([])
            for index in batch:
                again = (times[index],) if times[index] else ()
                keys[-1].append((index, derive(seed, "augment", stage, epoch, index, *again)))
                times[index] += 1
        return self._give(keys[first:])

    def _give(self, batches: list[list[Key]]) -> Iterator[Batch]:
        if self._loader is None:
            yield from map(self._views.__getitem__, batches)
            return
        self._cursor.batches = batches
        try:
            yield from self._loader
        except DatasetInvalid as error:  # a data worker's comes with its traceback in the message
            message = error.message.rpartition("DatasetInvalid: ")[2].strip()
            raise DatasetInvalid(message, "dataset.path") from error


def label_tensor(labels: Sequence[int | tuple[int, ...]], classes: int) -> Tensor:
    """Labels int64 (N,), or float32 (N, classes) with a 1 for each of an image's labels."""
    if isinstance(labels[0], int):
        return torch.tensor(labels)
    several = torch.zeros(len(labels), classes)
    for row, label in zip(several, labels, strict=True):
        row[torch.tensor(label, dtype=torch.int64)] = 1  # an image without labels stays a row of zeros
    return several


def _by_processes(views: Views, cursor: _Cursor, workers: int, pin: bool) -> DataLoader[Batch]:
    return DataLoader(
        views,
        batch_size=None,
        sampler=cursor,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=_as_it_is,
        pin_memory=pin,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
