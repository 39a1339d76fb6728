"""Batches: the order from (seed, stage, epoch), the views from (seed, stage, epoch, sample index).

The data workers get with each index all that its view depends on, so their number changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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


Key = tuple[int, int]  # (sample index, seed of its view)
Read = Callable[[Path], Tensor]  # a file → uint8 (3, H, W)
Labelled = tuple[Tensor, int | tuple[int, ...]]  # a view and its sample's label


class Views(TorchDataset[Labelled]):
    """Samples as views, asked for by key."""

    def __init__(self, samples: Sequence[Sample], view: View, read: Read = decode) -> None:
        self.samples = samples
        self.view = view
        self.read = read

    def __getitem__(self, key: Key) -> Labelled:
        index, seed = key
        sample = self.samples[index]
        image = self.read(sample.path)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.view(image), sample.label


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

    Where samples have several labels each, it is to be told how many `classes` there are.
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
        self.batch_size = batch_size
        self._cursor = _Cursor()
        self._loader = DataLoader(
            Views(samples, view, read),
            batch_sampler=self._cursor,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=partial(_collate, classes),
            pin_memory=pin,
        )

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

    def drawn(self, batches: Batches, seed: int, stage: int, epoch: int) -> Iterator[Batch]:
        """These batches with the views of that epoch. An image that stands twice has two views."""
        times: Counter[int] = Counter()
        keys: list[list[Key]] = []
        for batch in batches:
            keys.append([])
            for index in batch:
                again = (times[index],) if times[index] else ()
                keys[-1].append((index, derive(seed, "augment", stage, epoch, index, *again)))
                times[index] += 1
        return self._give(keys)

    def _give(self, batches: list[list[Key]]) -> Iterator[Batch]:
        self._cursor.batches = batches
        try:
            for images, labels in self._loader:
                yield Batch(images, labels)
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


def _collate(classes: int, samples: list[Labelled]) -> tuple[Tensor, Tensor]:
    images, labels = torch.stack([image for image, _ in samples]), [label for _, label in samples]
    return images, label_tensor(labels, classes)
