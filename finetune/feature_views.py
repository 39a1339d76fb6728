"""Which views of an image a stage has that computes their features once, and which of them an epoch takes."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from finetune.data.augmentation import light_flips
from finetune.data.loading import Batch
from finetune.data.sampling import Batches, batches_of
from finetune.features import views_of
from finetune.feeds import Source
from finetune.seeds import derive
from finetune.spec.augmentations import Light, NoAugmentation
from finetune.spec.stages import StageSpec

Choice = Callable[
    [int, Batches], list[list[int]]
]  # an epoch and its batches → the number of each image's view


@dataclass(frozen=True)
class KeptView:
    """One view of each image of a source. `name` says which, and by what it is drawn."""

    name: tuple[object, ...]
    images: Callable[[Source], Iterator[Tensor]]


def _plain(source: Source) -> Iterator[Tensor]:
    return (images for images, _ in source.place(source.loader.in_order()))


def _flipped(source: Source) -> Iterator[Tensor]:
    for images in _plain(source):
        yield images.flip(3).contiguous(memory_format=source.layout)


PLAIN = KeptView(("plain",), _plain)
FLIPPED = KeptView(("flipped",), _flipped)


def _drawn(stage: StageSpec, seed: int, index: int, epoch: int) -> KeptView:
    """What fresh augmentation draws in an epoch, but in the dataset's order."""

    def images(source: Source) -> Iterator[Tensor]:
        return (images for images, _ in source.place(_in_order(source, seed, index, epoch)))

    return KeptView(("drawn", repr(stage.augmentation), seed, index, epoch), images)


def _in_order(source: Source, seed: int, index: int, epoch: int) -> Iterator[Batch]:
    batches = batches_of(range(source.loader.count), source.loader.batch_size)
    return source.loader.drawn(batches, seed, index, epoch)


def training_views(stage: StageSpec, seed: int, index: int) -> tuple[list[KeptView], Choice]:
    """The views of a stage (its `index` from 0), and which of them each image of an epoch's batches has.

    With random augmentation view k is the one that epoch k draws. An epoch takes them in turn, and for an
    image that stands in it twice the next one.
    """
    if isinstance(stage.augmentation, NoAugmentation):
        return [PLAIN], lambda epoch, batches: [[0] * len(batch) for batch in batches]
    if isinstance(stage.augmentation, Light):
        return [PLAIN, FLIPPED], lambda epoch, batches: [
            [int(light_flips(derive(seed, "augment", index, epoch, image, *again))) for image, again in batch]
            for batch in _with_turns(batches)
        ]
    count = views_of(stage)
    return [_drawn(stage, seed, index, epoch) for epoch in range(count)], lambda epoch, batches: [
        [(epoch + sum(again)) % count for _, again in batch] for batch in _with_turns(batches)
    ]


def _with_turns(batches: Batches) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """Each image with how often it stood in the epoch before, if it did."""
    times: Counter[int] = Counter()
    for batch in batches:
        turns = list[tuple[int, tuple[int, ...]]]()
        for image in batch:
            turns.append((image, (times[image],) if times[image] else ()))
            times[image] += 1
        yield turns
