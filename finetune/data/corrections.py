"""A dataset with some labels replaced, as a manifest: the text of a CSV file for the dataset's folder."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.data.listing import Listed, class_problems, count_labels
from finetune.data.rows import BETWEEN_LABELS


class Unwritable(Exception):
    """The dataset cannot be told in a CSV manifest; the message says why."""


@dataclass(frozen=True)
class Corrected:
    """An image as the manifest is to name it."""

    split: str
    image: Listed
    labels: tuple[str, ...]


def write_manifest(images: Sequence[Corrected], folder: Path, *, multi_label: bool) -> str:
    """The manifest of images below `folder`, in which it is to lie.

    Raises:
        Unwritable: a name is no text, or the labels leave a class or a split without images.
    """
    _check_labels(images, multi_label=multi_label)
    weighted = any(one.image.weight != 1.0 for one in images)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = ["path", "labels" if multi_label else "label", "split", *(["weight"] if weighted else [])]
    writer.writerow(columns)
    for one in images:
        weight = [repr(one.image.weight)] if weighted else []
        writer.writerow([_path(one.image.path, folder), BETWEEN_LABELS.join(one.labels), one.split, *weight])
    return file.getvalue()


def _check_labels(images: Sequence[Corrected], *, multi_label: bool) -> None:
    for label in sorted({label for one in images for label in one.labels}):
        if label != label.strip() or not label.isprintable() or (multi_label and BETWEEN_LABELS in label):
            raise Unwritable(f"the class {label!r} cannot stand in a CSV manifest: give it another name")
    problems = class_problems(*_counted(images))
    if problems:
        raise Unwritable(f"with these labels {problems[0]}")


def _counted(images: Iterable[Corrected]) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The classes that are left, and how many images each has by split."""
    by: Mapping[str, list[Listed]] = {"train": [], "val": []}
    for one in images:
        by[one.split].append(Listed(one.image.path, one.labels))
    counts = {split: count_labels(listed) for split, listed in by.items()}
    return sorted(counts["train"] | counts["val"]), counts


def _path(path: Path, folder: Path) -> str:
    name = Path(os.path.relpath(path, folder)).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Unwritable("a file's name is no UTF-8, and no manifest can name it: rename it") from None
    if name.startswith("../"):
        raise Unwritable("an image lies outside the dataset's folder, where no manifest of it can name it")
    return name
