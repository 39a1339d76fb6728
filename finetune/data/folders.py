"""Image folders: `root/{train,val}/CLASS/*`, or `root/CLASS/*` that is split by a seed."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune.data.paths import Outside, resolve_below
from finetune.errors import DatasetInvalid, DatasetNotFound
from finetune.seeds import derive
from finetune.spec.job import DatasetSpec
from finetune.spec.problems import closest

SPLITS = ("train", "val")
VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Sample:
    """An image and the index of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Listing:
    """What lies in a dataset's folder, sound or not. `files[split][class]` are sorted paths.

    Without a val split of its own the only split is `train`.
    """

    name: str
    classes: tuple[str, ...]
    files: dict[str, dict[str, list[Path]]]

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class."""
        return {split: {name: len(found) for name, found in by.items()} for split, by in self.files.items()}


@dataclass(frozen=True)
class Dataset:
    """A dataset that can be trained on."""

    name: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    has_val_split: bool

    def class_counts(self) -> list[int]:
        """Training images of each class."""
        counts = Counter(sample.label for sample in self.train)
        return [counts[label] for label in range(len(self.classes))]


def dataset_names(data_dir: Path) -> list[str]:
    """The folders below the data root, sorted."""
    if not data_dir.is_dir():
        return []
    root = data_dir.resolve()
    return sorted(
        entry.name for entry in data_dir.iterdir() if entry.is_dir() and _counts(entry, data_dir, root)
    )


def find_folder(data_dir: Path, path: str) -> Path:
    """The dataset's folder below the data root; the same answer for one that is absent and one outside.

    Raises:
        DatasetNotFound: there is none.
    """
    try:
        folder = resolve_below(data_dir, path)
    except Outside:
        folder = None
    if folder is None or not folder.is_dir():
        near = closest(path, dataset_names(data_dir))
        raise DatasetNotFound(
            f"there is no dataset {path[:100]!r} below the data root; {near}", "dataset.path"
        )
    return folder


def list_folder(data_dir: Path, path: str) -> Listing:
    """Lists a dataset without opening its files.

    Raises:
        DatasetNotFound: there is no such folder.
    """
    folder = find_folder(data_dir, path)
    root = data_dir.resolve()
    has_splits = (folder / "train").is_dir()
    splits = [s for s in SPLITS if (folder / s).is_dir()] if has_splits else ["train"]
    files = {s: dict(_by_class(folder / s if has_splits else folder, root)) for s in splits}
    classes = tuple(sorted({name for by in files.values() for name in by}))
    return Listing(path, classes, files)


def _by_class(folder: Path, root: Path) -> Iterator[tuple[str, list[Path]]]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not _hidden(entry) and entry.resolve().is_relative_to(root):
            yield entry.name, [p for p in sorted(entry.rglob("*")) if p.is_file() and _counts(p, entry, root)]


def _counts(path: Path, folder: Path, root: Path) -> bool:
    """Leaves out what is hidden, and links that lead out of the data root: those are nobody's images."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and (not path.is_symlink() or path.resolve().is_relative_to(root))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def problems_of(listing: Listing) -> list[str]:
    """Sentences that say what keeps a listing from being trained on, and what to mend."""
    if not listing.classes:
        return [
            f"{listing.name!r} has no classes: make a folder of images for each, train/CLASS/* or CLASS/*"
        ]
    problems = []
    if len(listing.classes) == 1:
        problems.append(f"there is one class only ({listing.classes[0]!r}): a classifier needs two or more")
    counts = listing.counts()
    if not any(n for by in counts.values() for n in by.values()):
        return [*problems, f"{listing.name!r} has class folders and no images in them"]
    for split, by in counts.items():
        empty = [name for name in by if not by[name]]
        if empty:
            problems.append(f"no images in {split} for {_names(empty)}: add some or remove the folder")
        for other in counts:
            lone = [name for name in by if name not in counts[other]]
            if lone:
                problems.append(
                    f"{_names(lone)} stands in {split} and not in {other}: every class needs both"
                )
    few = [name for name, n in counts["train"].items() if n == 1]
    if "val" not in counts and few:
        problems.append(
            f"{_names(few)} has one image: a class needs two, one to train on and one to validate"
        )
    return problems


def _names(names: list[str]) -> str:
    return ", ".join(repr(n) for n in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def open_dataset(data_dir: Path, spec: DatasetSpec, seed: int) -> Dataset:
    """The dataset, split.

    Raises:
        DatasetNotFound: there is no such folder.
        DatasetInvalid: it cannot be trained on; the message has every reason.
    """
    listing = list_folder(data_dir, spec.path)
    problems = problems_of(listing)
    if problems:
        raise DatasetInvalid("; ".join(problems), "dataset.path")
    train, val = [], []
    for label, name in enumerate(listing.classes):
        files = listing.files["train"][name]
        if "val" in listing.files:
            held_out = listing.files["val"][name]
        else:
            files, held_out = _split(files, spec.val_fraction or VAL_FRACTION, derive(seed, "split", name))
        train += [Sample(path, label) for path in files]
        val += [Sample(path, label) for path in held_out]
    return Dataset(listing.name, listing.classes, tuple(train), tuple(val), "val" in listing.files)


def _split(files: list[Path], fraction: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Holds out the fraction of a class's files, at least one, and leaves at least one."""
    count = min(max(1, round(fraction * len(files))), len(files) - 1)
    chosen = set(random.Random(seed).sample(range(len(files)), count))
    return (
        [path for i, path in enumerate(files) if i not in chosen],
        [path for i, path in enumerate(files) if i in chosen],
    )
