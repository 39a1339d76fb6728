"""A manifest's rows as they stand in its file, before anybody asks what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from finetune.spec.problems import closest

COLUMNS = ("path", "label", "labels", "split", "weight")  # all others are left alone
BETWEEN_LABELS = "|"
MOST_ROWS = 1_000_000  # a small Parquet file can claim any number
MOST_PROBLEMS = 1000  # behind so many nobody looks for more


@dataclass(frozen=True, slots=True)
class Row:
    """What a row says, as text. A cell that is empty, or whose column is not there, is `""`.

    `labels` are all of them, of a column `label` the one. `number` is where the row stands.
    """

    number: int
    path: str
    labels: tuple[str, ...]
    split: str = ""
    weight: str = ""


@dataclass
class Table:
    """A manifest's columns and rows, what the rows are counted in, and what could not be read."""

    counted_in: str
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def column_problems(columns: Sequence[str], where: str) -> list[str]:
    """What is wrong with the columns' names, which stand at `where`."""
    problems = []
    if "path" not in columns:
        problems.append(f"there is no column 'path'; {closest('path', columns)}")
    if "label" in columns and "labels" in columns:
        problems.append("has the columns 'label' and 'labels': keep one of them")
    if "label" not in columns and "labels" not in columns:
        problems.append(f"there is no column 'label' or 'labels'; {closest('label', columns)}")
    problems += [f"the column {name!r} stands twice" for name in COLUMNS if columns.count(name) > 1]
    return [f"{where}: {problem}" for problem in problems]


def split_labels(text: str) -> tuple[str, ...]:
    """The labels of a cell of the column `labels`; of an empty one none."""
    return tuple(text.split(BETWEEN_LABELS)) if text.strip() else ()
