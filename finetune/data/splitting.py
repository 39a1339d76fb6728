"""Holding images out for validation where a dataset has no val split: a function of the images and a seed."""

import random
from collections import Counter
from collections.abc import Sequence

from finetune.data.listing import Listed
from finetune.seeds import derive

Halves = tuple[list[Listed], list[Listed]]  # to train on, held out


def split_by_class(images: Sequence[Listed], fraction: float, seed: int) -> Halves:
    """Of each class (an image has one) the fraction, at least one image, and leaves at least one."""
    members: dict[str, list[Listed]] = {}
    for image in images:
        members.setdefault(image.labels[0], []).append(image)
    train, held_out = [], []
    for name in sorted(members):
        own = members[name]
        count = min(max(1, round(fraction * len(own))), len(own) - 1)
        chosen = set(random.Random(derive(seed, "split", name)).sample(range(len(own)), count))
        train += [image for i, image in enumerate(own) if i not in chosen]
        held_out += [image for i, image in enumerate(own) if i in chosen]
    return train, held_out


def split_by_labels(images: Sequence[Listed], fraction: float, seed: int) -> Halves:
    """The fraction of images with any number of labels each.

    Every class keeps an image to train on. The rarest classes choose first what is held out for them: a class
    has none there only if each of its images is some class's last one to train on.
    """
    order = list(range(len(images)))
    random.Random(derive(seed, "split")).shuffle(order)
    members: dict[str, list[int]] = {}
    for i in order:
        for name in images[i].labels:
            members.setdefault(name, []).append(i)
    left = Counter({name: len(own) for name, own in members.items()})
    chosen: set[int] = set()

    def take_first(candidates: Sequence[int], count: int) -> None:
        for i in candidates:
            if count <= 0:
                return
            if i not in chosen and all(left[name] > 1 for name in images[i].labels):
                chosen.add(i)
                left.subtract(images[i].labels)
                count -= 1

    for name in sorted(members, key=lambda name: (len(members[name]), name)):
        if left[name] == len(members[name]):
            take_first(members[name], 1)
    take_first(order, min(max(1, round(fraction * len(images))), len(images) - 1) - len(chosen))
    return (
        [image for i, image in enumerate(images) if i not in chosen],
        [image for i, image in enumerate(images) if i in chosen],
    )
