"""Manifests: a table that names a dataset's images, their labels and, where it has that column, their splits.

Columns: `path` (relative to the manifest's folder), `label` (one) or `labels` (any number, with `|` between
them), `split` (train or val). Other columns are left alone.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from finetune.data.listing import SPLITS, Counts, Listed, Listing, class_problems
from finetune.data.paths import Outside, resolve_below
from finetune.spec.problems import closest

SUFFIX = ".csv"
BETWEEN_LABELS = "|"
MOST_SHOWN = 10  # problems


@dataclass
class Table:
    """A file's columns and rows, each row with the line on which it ends; and what could not be read."""

    columns: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def is_manifest(path: Path) -> bool:
    """Whether a path is a file that is named like a manifest."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def list_manifest(file: Path, name: str, root: Path) -> Listing:
    """Lists the images that a manifest below the data root (both real paths) names."""
    table = _read_csv(file)
    wrong_columns = _column_problems(table.columns) if table.columns else []
    if wrong_columns or not table.rows:
        return Listing(name, (), {"train": ()}, {"train": {}}, _shown([*wrong_columns, *table.problems]))
    rows = _Rows(table.columns, _Files(file.parent, root))
    for line, row in table.rows:
        rows.add(line, row)
    problems = table.problems + rows.problems
    classes = tuple(sorted({label for by in rows.said.values() for label in by}))
    if rows.understood and not table.problems:
        problems += class_problems(classes, rows.said) if classes else ["no image has a label"]
    order = _by_path if rows.multi_label else _by_class
    images = {split: tuple(sorted(listed, key=order)) for split, listed in rows.images.items()}
    counts = {split: _count(listed) for split, listed in images.items()}
    return Listing(name, classes, images, counts, _shown(problems), rows.multi_label)


# The order of the rows changes nothing. Images with one label each stand as they do in folders.


def _by_path(image: Listed) -> Any:
    return image.path


def _by_class(image: Listed) -> Any:
    return image.labels, image.path


def _count(images: Iterable[Listed]) -> dict[str, int]:
    return dict(sorted(Counter(label for image in images for label in image.labels).items()))


def _shown(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - MOST_SHOWN
    return (*problems[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else []))


def _read_csv(file: Path) -> Table:
    """Reads UTF-8 text, with or without a byte order mark."""
    table = Table()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        table.problems.append(f"{file.name} cannot be read ({error.strerror})")
        return table
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        table.problems.append(f"line {line}: is no UTF-8 text: save {file.name} as UTF-8")
        return table
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        table.columns = [cell.strip() for cell in next(reader, [])]
        for cells in reader:
            if len(cells) == len(table.columns):
                table.rows.append((reader.line_num, dict(zip(table.columns, cells, strict=True))))
            elif cells:
                table.problems.append(
                    f"line {reader.line_num}: has {len(cells)} cells, and the first line has "
                    f"{len(table.columns)}: put quotes around a cell that holds a comma"
                )
    except csv.Error as error:
        table.problems.append(f"line {reader.line_num}: is no CSV ({error})")
    if not table.rows and not table.problems:
        table.problems.append(
            f"{file.name} has no rows: the first line names the columns, every other one an image"
        )
    return table


def _column_problems(columns: list[str]) -> list[str]:
    problems = []
    if "path" not in columns:
        problems.append(f"line 1: there is no column 'path'; {closest('path', columns)}")
    if "label" in columns and "labels" in columns:
        problems.append("line 1: has the columns 'label' and 'labels': keep one of them")
    if "label" not in columns and "labels" not in columns:
        problems.append(f"line 1: there is no column 'label' or 'labels'; {closest('label', columns)}")
    if "weight" in columns:
        problems.append("line 1: the column 'weight' is not supported yet: remove it or give it another name")
    ours = ("path", "label", "labels", "split")
    problems += [f"line 1: the column {c!r} stands twice" for c in ours if columns.count(c) > 1]
    return problems


class _Rows:
    """Turns rows into images by split, and says by line what is wrong with them.

    `said` counts labels by split whether or not the image is there. `understood` says that no label or split
    is wrong, without which the counts mean little.
    """

    def __init__(self, columns: list[str], files: "_Files") -> None:
        splits = SPLITS if "split" in columns else ("train",)
        self.multi_label = "labels" in columns
        self.images: dict[str, list[Listed]] = {split: [] for split in splits}
        self.said: Counts = {split: {} for split in splits}
        self.problems: list[str] = []
        self.understood = True
        self._files, self._lines = files, dict[Path, int]()

    def add(self, line: int, row: Mapping[str, str]) -> None:
        """Reads a row."""
        wrong = len(self.problems)
        labels, split = self._labels(line, row), self._split(line, row)
        self.understood = self.understood and len(self.problems) == wrong
        path = self._path(line, row["path"])
        if split is None:
            return
        for label in labels:
            self.said[split][label] = self.said[split].get(label, 0) + 1
        if path is not None:
            self.images[split].append(Listed(path, labels))

    def _labels(self, line: int, row: Mapping[str, str]) -> tuple[str, ...]:
        if not self.multi_label:
            labels = [row["label"].strip()]
        elif row["labels"].strip():
            labels = [label.strip() for label in row["labels"].split(BETWEEN_LABELS)]
        else:
            return ()
        if "" in labels:
            self._note(line, "a label is empty")
        for label in sorted({label for label in labels if labels.count(label) > 1} - {""}):
            self._note(line, f"the label {_quoted(label)} stands twice")
        for label in labels:
            if not label.isprintable():
                self._note(line, f"the label {_quoted(label)} has characters that cannot be shown")
        return tuple(label for label in labels if label)

    def _split(self, line: int, row: Mapping[str, str]) -> str | None:
        split = row.get("split", "train").strip()
        if split in SPLITS:
            return split
        self._note(line, f"the split is {_quoted(split)}: say train or val")
        return None

    def _path(self, line: int, relative: str) -> Path | None:
        if not relative.strip():
            problem = "the path is empty"
        elif (path := self._files.find(relative)) is None:
            problem = f"{_quoted(relative)} leads out of the data root, or has '..' in it"
        elif not path.is_file():
            problem = f"there is no file {_quoted(relative)}"
        elif self._lines.setdefault(path, line) != line:
            problem = f"{_quoted(relative)} stands on line {self._lines[path]} already"
        else:
            return path
        self._note(line, problem)
        return None

    def _note(self, line: int, problem: str) -> None:
        self.problems.append(f"line {line}: {problem}")


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
