"""What lies below the data root under a dataset's name, sound or not, before it is split and trained on."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val")
Counts = dict[str, dict[str, int]]  # images by split and class


@dataclass(frozen=True)
class Listed:
    """An image, the names of its classes, and how much it counts in the training loss."""

    path: Path
    labels: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Listing:
    """A dataset's images by split, and sentences that say what keeps it from being trained on.

    Without a val split of its own the only split is `train`. With `multi_label` an image has any number of
    labels, without it one.
    """

    name: str
    classes: tuple[str, ...]
    images: dict[str, tuple[Listed, ...]]
    counts: Counts
    problems: tuple[str, ...]
    multi_label: bool = False


def count_labels(images: Iterable[Listed]) -> dict[str, int]:
    """How many images each label stands at."""
    return dict(Counter(label for image in images for label in image.labels))


def class_problems(classes: Sequence[str], counts: Counts) -> list[str]:
    """What keeps classes with these counts from being told apart, learnt and validated."""
    problems = [*one_class(classes), *missing_classes(counts)]
    few = [name for name, n in counts["train"].items() if n == 1]
    if "val" not in counts and few:
        problems.append(f"{names(few)} has one image: a class needs two, one to train on and one to validate")
    return problems


def missing_classes(counts: Counts) -> list[str]:
    """The sentences for classes of which a split has no images, or not even a folder."""
    problems = []
    for split, by in counts.items():
        for other in counts:
            lone = [name for name in by if name not in counts[other]]
            if lone:
                problems.append(f"{names(lone)} stands in {split} and not in {other}: every class needs both")
        empty = [name for name in by if not by[name]]
        if empty:
            problems.append(f"no images in {split} for {names(empty)}: add some or remove the folder")
    return problems


def one_class(classes: Sequence[str]) -> list[str]:
    """The sentence for a dataset with a single class."""
    if len(classes) != 1:
        return []
    return [f"there is one class only ({classes[0]!r}): a classifier needs two or more"]


def names(some: Sequence[str]) -> str:
    """The first five of some names, and how many more there are."""
    return ", ".join(repr(n) for n in some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")


def belongs(path: Path, folder: Path, root: Path) -> bool:
    """Leaves out what is hidden below a folder, and links that lead out of the data root."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    # os.path.realpath takes links that lead in a circle, which Path.resolve() raises an error for.
    return not hidden and (not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root))
