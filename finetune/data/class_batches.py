"""Batches of P classes with K images each: every image finds others of its class (Hermans et al. 2017).

Classes come in turn, and so do the images of each class. An epoch is a stretch of one endless sequence of
batches, and each batch of it is a function of its number and the seed: no epoch needs the ones before it.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import ceil, gcd

from finetune.data.dataset import Dataset
from finetune.errors import SpecInvalid
from finetune.spec.objectives import Triplet
from finetune.spec.problems import Problem


class ClassBatches:
    """Draws batches of `per_batch` classes (P) with `per_class` images of each (K), all of them distinct.

    An epoch has about as many images as the dataset. Every class comes as often as another to one: where
    they differ in size, an epoch shows images of small ones several times and a part of large ones, and goes
    on with the rest in the next one.
    """

    def __init__(
        self, labels: Sequence[int], per_batch: int, per_class: int, seed: Callable[..., int]
    ) -> None:
        """Takes the samples' labels. `seed(*of)` derives a seed.

        There are at least `per_batch` classes, each of `per_class` samples or more.
        """
        self._members: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            self._members.setdefault(label, []).append(index)
        self._per_batch, self._per_class, self._seed = per_batch, per_class, seed
        self.count = max(1, round(len(labels) / (per_batch * per_class)))

    def of_epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch (0-based), each a list of samples, class by class."""
        orders: dict[tuple[int, int], list[int]] = {}
        numbers = range(epoch * self.count, (epoch + 1) * self.count)
        return [
            [index for label, time in self._classes(number) for index in self._images(label, time, orders)]
            for number in numbers
        ]

    def _classes(self, number: int) -> Iterator[tuple[int, int]]:
        """The classes of a batch, each with how often it came before.

        The classes stand in a circle and each batch takes the next P. After a whole number of rounds that
        is a whole number of batches the circle is shuffled.
        """
        classes = sorted(self._members)
        shared = gcd(len(classes), self._per_batch)
        circle, place = divmod(number, len(classes) // shared)
        random.Random(self._seed("classes", circle)).shuffle(classes)
        start = place * self._per_batch
        for position in range(start, start + self._per_batch):
            rounds, at = divmod(position, len(classes))
            yield classes[at], circle * (self._per_batch // shared) + rounds

    def _images(self, label: int, time: int, orders: dict[tuple[int, int], list[int]]) -> list[int]:
        """The images of a class when it has come `time` times before; `orders` remembers shuffled ones.

        The class's images are shuffled and cut into groups of K; the last group is filled up from the first.
        """
        members = self._members[label]
        shuffled, group = divmod(time, ceil(len(members) / self._per_class))
        if (label, shuffled) not in orders:
            order = list(members)
            random.Random(self._seed("images", label, shuffled)).shuffle(order)
            orders[label, shuffled] = order + order[: self._per_class]
        start = group * self._per_class
        return orders[label, shuffled][start : start + self._per_class]


def check(objective: Triplet, dataset: Dataset) -> None:
    """Sees to it that a dataset fills the batches, and that its validation images can find one another.

    Raises:
        SpecInvalid: it does not; all problems are there.
    """
    problems = list(_problems(objective, dataset))
    if problems:
        raise SpecInvalid(problems)


def _problems(objective: Triplet, dataset: Dataset) -> Iterator[Problem]:
    classes, wanted = len(dataset.classes), objective.classes_per_batch
    if classes < wanted:
        message = f"the dataset has {classes} classes and a batch takes {wanted}"
        cure = f"add classes or take {classes} or fewer"
        yield Problem("objective.classes_per_batch", f"{message}: {cure}", "too_few_classes")
    wanted = objective.images_per_class
    counts = dict(zip(dataset.classes, dataset.class_counts(), strict=True))
    few = [name for name, count in counts.items() if count < wanted]
    if few:
        name = min(few, key=counts.__getitem__)
        message = f"the class {name!r} has {_images(counts[name])} and a batch takes {wanted} of each class"
        if len(few) > 1:
            message += f" ({len(few)} classes have too few)"
        less = f" or take {counts[name]} or fewer" if counts[name] > 1 else ""
        yield Problem("objective.images_per_class", f"{message}: add images{less}", "too_few_images")
    if max(Counter(sample.label for sample in dataset.val).values()) < 2:
        message = "no class has two validation images, and each is looked for with another of its class"
        yield Problem("dataset.path", f"{message}: add some", "too_few_images")


def _images(count: int) -> str:
    return f"{count} training image{'' if count == 1 else 's'}"
