"""Manifests: a table that names a dataset's images, their labels and, where it has that column, their splits.

Columns: `path` (relative to the manifest's folder), `label` (one) or `labels` (any number, in text with `|`
between them), `split` (train or val), `weight` (how much the image counts in the training loss). Other
columns are left alone.
"""

import re
from collections.abc import Callable
from math import nan
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from finetune.data import csv_rows, parquet_rows
from finetune.data.listing import SPLITS, Counts, Listed, Listing, class_problems, count_labels
from finetune.data.paths import Irregular, Outside, open_below, resolve_below
from finetune.data.rows import MOST_PROBLEMS, Row, Table

READERS: dict[str, Callable[[BinaryIO, str], Table]] = {
    csv_rows.SUFFIX: csv_rows.read_csv,
    parquet_rows.SUFFIX: parquet_rows.read_parquet,
}
MOST_SHOWN = 10  # problems
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6  # so that sums over any dataset are sound in float32


def is_manifest(path: Path) -> bool:
    """Whether a path is a file that is named like a manifest."""
    return path.suffix.lower() in READERS and path.is_file()


def list_manifest(file: Path, name: str, root: Path) -> Listing:
    """Lists the images that a manifest below the data root (both real paths) names."""
    table = _table(file, root)
    if not table.rows:
        return Listing(name, (), {"train": ()}, {"train": {}}, _shown(table.problems))
    rows = _Rows(table, _Files(file.parent, root))
    for row in table.rows:
        rows.add(row)
        if len(rows.problems) >= MOST_PROBLEMS:
            rows.understood = False
            break
    problems = table.problems + rows.problems
    classes = tuple(sorted({label for by in rows.said.values() for label in by}))
    if rows.understood and not table.problems:
        problems += class_problems(classes, rows.said) if classes else ["no image has a label"]
    order = _by_path if rows.multi_label else _by_class
    images = {split: tuple(sorted(listed, key=order)) for split, listed in rows.images.items()}
    counts = {split: dict(sorted(count_labels(listed).items())) for split, listed in images.items()}
    return Listing(name, classes, images, counts, _shown(problems), rows.multi_label)


def _table(file: Path, root: Path) -> Table:
    try:
        with open_below(file, root) as opened:
            return READERS[file.suffix.lower()](opened, file.name)
    except (OSError, Outside, Irregular) as error:
        reason = getattr(error, "strerror", None) or "it is no file below the data root any more"
        return Table("line", problems=[f"{file.name} cannot be read ({reason})"])


# The order of the rows changes nothing. Images with one label each stand as they do in folders.


def _by_path(image: Listed) -> Any:
    return image.path


def _by_class(image: Listed) -> Any:
    return image.labels, image.path


def _shown(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - MOST_SHOWN
    return (*problems[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else []))


class _Rows:
    """Turns rows into images by split, and says by line what is wrong with them.

    `said` counts labels by split whether or not the image is there. `understood` says that no label or split
    is wrong, without which the counts mean little.
    """

    def __init__(self, table: Table, files: "_Files") -> None:
        self._has_splits = "split" in table.columns
        self.multi_label = "labels" in table.columns
        splits = SPLITS if self._has_splits else ("train",)
        self.images: dict[str, list[Listed]] = {split: [] for split in splits}
        self.said: Counts = {split: {} for split in splits}
        self.problems: list[str] = []
        self.understood = True
        self._files, self._numbers = files, dict[Path, int]()
        self._counted_in = table.counted_in

    def add(self, row: Row) -> None:
        """Reads a row."""
        wrong = len(self.problems)
        labels, split = self._labels(row), self._split(row)
        self.understood = self.understood and len(self.problems) == wrong
        path, weight = self._path(row), self._weight(row)
        if split is None:
            return
        for label in labels:
            self.said[split][label] = self.said[split].get(label, 0) + 1
        if path is not None:
            self.images[split].append(Listed(path, labels, weight))

    def _labels(self, row: Row) -> tuple[str, ...]:
        labels = [label.strip() for label in row.labels]
        if "" in labels:
            self._note(row, "a label is empty")
        for label in sorted({label for label in labels if labels.count(label) > 1} - {""}):
            self._note(row, f"the label {_quoted(label)} stands twice")
        for label in labels:
            if not label.isprintable():
                self._note(row, f"the label {_quoted(label)} has characters that cannot be shown")
        return tuple(label for label in labels if label)

    def _split(self, row: Row) -> str | None:
        split = row.split.strip() if self._has_splits else "train"
        if split in SPLITS:
            return split
        self._note(row, f"the split is {_quoted(split)}: say train or val")
        return None

    def _path(self, row: Row) -> Path | None:
        if not row.path.strip():
            problem = "the path is empty"
        elif (path := self._files.find(row.path)) is None:
            problem = f"{_quoted(row.path)} leads out of the data root, or has '..' in it"
        elif not path.is_file():
            problem = f"there is no file {_quoted(row.path)}"
        elif (first := self._numbers.setdefault(path, row.number)) != row.number:
            problem = f"{_quoted(row.path)} stands on {self._counted_in} {first} already"
        else:
            return path
        self._note(row, problem)
        return None

    def _weight(self, row: Row) -> float:
        """An empty cell says 1. No image counts 0: a step over such images alone would have no mean."""
        text = row.weight.strip()
        if not text:
            return 1.0
        weight = float(text) if NUMBER.fullmatch(text) else nan
        if LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            return weight
        cure = f"take a number from {LEAST_WEIGHT:f} to {MOST_WEIGHT:.0f}"
        if weight == 0:
            cure += f", or remove the {self._counted_in} if the image is to count nothing"
        self._note(row, f"the weight is {_quoted(text)}: {cure}")
        return 1.0

    def _note(self, row: Row, problem: str) -> None:
        self.problems.append(f"{self._counted_in} {row.number}: {problem}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:99]}…")


class _Files:
    """Finds files by their paths relative to a manifest's folder, of which none leads out of the data root.

    One look at a folder's real path serves all files in it.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._root, self._place = root, PurePosixPath(folder.relative_to(root))
        self._folders: dict[PurePosixPath, Path] = {}

    def find(self, relative: str) -> Path | None:
        """The file's path, existing or not, with its folder's real path; None if it leads elsewhere."""
        path = self._place / relative
        try:
            if path.parent not in self._folders:
                resolve_below(self._root, str(path))
                self._folders[path.parent] = (self._root / path.parent).resolve()
            file = self._folders[path.parent] / path.name
            if "\x00" in relative or file.is_symlink():
                resolve_below(self._root, str(path))
        except (Outside, OSError):  # the system's error is of a name that is too long
            return None
        return file if file.is_relative_to(self._root) else None
