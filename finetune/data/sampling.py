"""Which images make which batches: a function of (seed, stage, epoch), a row of `SAMPLERS` for each way.

An image may stand more than once in an epoch (`balanced`, the triplet objective's batches).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.data import class_batches
from finetune.data.dataset import Dataset
from finetune.seeds import derive
from finetune.spec.objectives import Triplet
from finetune.spec.stages import StageSpec

Batches = list[list[int]]  # indices of samples


def batches_of(order: Sequence[int], batch_size: int) -> Batches:
    """The order cut into batches. One image left over joins the batch before it.

    BatchNorm cannot train on one image whose features have been pooled to one pixel.
    """
    cut = [list(order[at : at + batch_size]) for at in range(0, len(order), batch_size)]
    if len(cut) > 1 and len(cut[-1]) == 1 and batch_size > 1:
        lone = cut.pop()
        cut[-1] += lone
    return cut


def epoch_order(count: int, seed: int, stage: int, epoch: int) -> list[int]:
    """The samples' indices in the order in which an epoch shows them."""
    order = list(range(count))
    random.Random(derive(seed, "order", stage, epoch)).shuffle(order)
    return order


def balanced_order(labels: Sequence[int], seed: int, stage: int, epoch: int) -> list[int]:
    """As many samples as there are, every class as often as another to one, its images in turn.

    A class's images stand once each before one stands again.
    """
    draw = random.Random(derive(seed, "order", stage, epoch))
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    classes = sorted(members)
    draw.shuffle(classes)  # who gets the places that are left over
    order = []
    for place, label in enumerate(classes):
        wanted = len(labels) // len(classes) + (place < len(labels) % len(classes))
        taken: list[int] = []
        while len(taken) < wanted:
            taken += draw.sample(members[label], len(members[label]))
        order += taken[:wanted]
    draw.shuffle(order)
    return order


@dataclass(frozen=True)
class Sampling:
    """A stage's batches: `batches(epoch)` for an epoch counted from 0, `count` of them in each.

    `said` tells what is not to be seen in the stage itself.
    """

    batches: Callable[[int], Batches]
    count: int
    said: tuple[str, ...] = ()


def _shuffle(dataset: Dataset, batch_size: int, seed: int, stage: int) -> Callable[[int], Batches]:
    count = len(dataset.train)
    return lambda epoch: batches_of(epoch_order(count, seed, stage, epoch), batch_size)


def _balanced(dataset: Dataset, batch_size: int, seed: int, stage: int) -> Callable[[int], Batches]:
    labels = dataset.train_labels()
    return lambda epoch: batches_of(balanced_order(labels, seed, stage, epoch), batch_size)


SAMPLERS: dict[str, Callable[[Dataset, int, int, int], Callable[[int], Batches]]] = {
    "shuffle": _shuffle,
    "balanced": _balanced,
}


def sampling_of(
    stage: StageSpec, objective: Any, dataset: Dataset, batch_size: int, seed: int, index: int
) -> Sampling:
    """How a stage (its `index` from 0) of a run draws its batches.

    Raises:
        SpecInvalid: the dataset does not fill the batches that the objective takes.
    """
    if isinstance(objective, Triplet):
        class_batches.check(objective, dataset)
        drawn = class_batches.ClassBatches(
            dataset.train_labels(),
            objective.classes_per_batch,
            objective.images_per_class,
            lambda *of: derive(seed, "order", index, *of),
        )
        said = (
            f"batches of {objective.classes_per_batch} classes with {objective.images_per_class} images: "
            "batch_size is that of validation"
        )
        return Sampling(drawn.of_epoch, drawn.count, (said,))
    batches = SAMPLERS[stage.sampler](dataset, batch_size, seed, index)
    return Sampling(batches, len(batches(0)))
