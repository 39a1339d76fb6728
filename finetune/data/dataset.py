"""Datasets by their path below the data root: a folder of images, or a manifest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.data.folders import list_folder
from finetune.data.listing import Listed, Listing, belongs
from finetune.data.manifests import is_manifest, list_manifest
from finetune.data.paths import Outside, resolve_below, sendable
from finetune.data.splitting import split_by_class, split_by_labels
from finetune.errors import DatasetInvalid, DatasetNotFound, SpecInvalid
from finetune.spec.job import DatasetSpec
from finetune.spec.objectives import BinaryCrossEntropy, Triplet
from finetune.spec.problems import Problem, closest

VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Sample:
    """An image and the index of its class; with several labels an image their indices, ascending.

    `weight` is how much it counts in the training loss beside others.
    """

    path: Path
    label: int | tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Dataset:
    """A dataset that can be trained on. With `multi_label` every sample's label is a tuple."""

    name: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    has_val_split: bool
    multi_label: bool = False

    def class_counts(self) -> list[int]:
        """Training images of each class."""
        counts: Counter[int] = Counter()
        for sample in self.train:
            counts.update([sample.label] if isinstance(sample.label, int) else sample.label)
        return [counts[label] for label in range(len(self.classes))]

    def train_labels(self) -> list[int]:
        """The one label of each training image, in their order."""
        labels = [sample.label for sample in self.train if isinstance(sample.label, int)]
        assert len(labels) == len(self.train), "the images have several labels"
        return labels


def dataset_names(data_dir: Path) -> list[str]:
    """The folders below the data root, and the manifests there and in those folders, sorted."""
    if not data_dir.is_dir():
        return []
    root = data_dir.resolve()
    entries = [entry for entry in data_dir.iterdir() if belongs(entry, data_dir, root)]
    folders = [entry for entry in entries if entry.is_dir()]
    inside = [entry for folder in folders for entry in folder.iterdir() if belongs(entry, folder, root)]
    manifests = [entry for entry in (*entries, *inside) if is_manifest(entry)]
    names = (entry.relative_to(data_dir).as_posix() for entry in (*folders, *manifests))
    return sorted(name for name in names if name == sendable(name))  # the others could not be asked for


def find_dataset(data_dir: Path, path: str) -> Path:
    """The dataset's folder or manifest below the data root.

    The answer is the same for one that is absent and one outside.

    Raises:
        DatasetNotFound: there is none.
    """
    try:
        found = resolve_below(data_dir, path)
    except Outside:
        found = None
    if found is None or not (found.is_dir() or is_manifest(found)):
        near = closest(path, dataset_names(data_dir))
        raise DatasetNotFound(
            f"there is no dataset {path[:100]!r} below the data root; {near}", "dataset.path"
        )
    return found


def folder_of(data_dir: Path, path: str) -> Path:
    """The folder that a dataset's images are named from: its own, or the one that its manifest is in.

    Raises:
        DatasetNotFound: there is no such dataset.
    """
    found = find_dataset(data_dir, path)
    return found if found.is_dir() else found.parent


def list_dataset(data_dir: Path, path: str) -> Listing:
    """Lists a dataset without opening its images.

    Raises:
        DatasetNotFound: there is none.
    """
    found = find_dataset(data_dir, path)
    listed = list_folder if found.is_dir() else list_manifest
    return listed(found, path, data_dir.resolve())


def open_dataset(data_dir: Path, spec: DatasetSpec, seed: int) -> Dataset:
    """The dataset, split.

    Raises:
        DatasetNotFound: there is none.
        DatasetInvalid: it cannot be trained on; the message has every reason.
    """
    listing = list_dataset(data_dir, spec.path)
    refuse_unfit(listing)
    return split_listing(listing, spec, seed)


def refuse_unfit(listing: Listing) -> None:
    """Raises an error if there is nothing to split.

    Raises:
        DatasetInvalid: the dataset cannot be trained on; the message has every reason.
    """
    if listing.problems:
        raise DatasetInvalid("; ".join(listing.problems), "dataset.path")


def split_listing(listing: Listing, spec: DatasetSpec, seed: int) -> Dataset:
    """The images of a listing in the splits of their own, or the fraction held out."""
    images, has_val_split = listing.images, "val" in listing.images
    if has_val_split:
        train, val = list(images["train"]), list(images["val"])
    else:
        split = split_by_labels if listing.multi_label else split_by_class
        train, val = split(images["train"], spec.val_fraction or VAL_FRACTION, seed)
    return Dataset(
        listing.name,
        listing.classes,
        _samples(train, listing),
        _samples(val, listing),
        has_val_split,
        listing.multi_label,
    )


def _samples(images: list[Listed], listing: Listing) -> tuple[Sample, ...]:
    index = {name: i for i, name in enumerate(listing.classes)}
    several = ((image, tuple(sorted(index[name] for name in image.labels))) for image in images)
    return tuple(
        Sample(image.path, labels if listing.multi_label else labels[0], image.weight)
        for image, labels in several
    )


def weights_of(samples: Sequence[Sample]) -> list[float] | None:
    """How much each image counts; None where all count the same, which is as if none had a weight."""
    weights = [sample.weight for sample in samples]
    return weights if len(set(weights)) > 1 else None


def check_objective(objective: Any, dataset: Dataset) -> None:
    """Holds a spec's objective against the dataset's labels.

    Raises:
        SpecInvalid: the objective takes one label an image, and the dataset's images have any number; or it
            compares images, and they have weights.
    """
    if dataset.multi_label and not isinstance(objective, BinaryCrossEntropy):
        message = (
            f"{objective.name} takes one label an image, and the images of {dataset.name!r} have any number: "
            "take binary_cross_entropy"
        )
        raise SpecInvalid([Problem("objective", message, "unfit_for_dataset")])
    if isinstance(objective, Triplet) and weights_of((*dataset.train, *dataset.val)) is not None:
        message = (
            f"triplet compares images with one another, and those of {dataset.name!r} have weights, each its "
            "own: take another objective, or remove the column 'weight'"
        )
        raise SpecInvalid([Problem("objective", message, "unfit_for_dataset")])
