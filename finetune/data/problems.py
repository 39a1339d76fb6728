"""What a check says of a dataset: plain records that become JSON and load no torch."""

from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any, Literal

MOST_NAMED = 100  # files of one problem

Severity = Literal["error", "warning"]
Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class DataProblem:
    """One kind of problem: what is wrong and what to do, and the files that have it.

    `files` are paths relative to the dataset's folder (of a manifest: to the manifest's), the first hundred
    at most; `count` is the number of all of them, or of classes where the problem is one of classes.
    """

    kind: str
    severity: Severity
    message: str
    files: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class Sizes:
    """Of a dataset's images: the smallest and the largest by area, and the medians of width and height."""

    smallest: Size
    median: Size
    largest: Size


@dataclass(frozen=True)
class DatasetCheck:
    """What is known of a dataset whose files have been looked at.

    `fingerprint` is None where there is nothing to train on. `images` are the files that are listed. For this
    check `opened` files were opened; `known` ones had been before and are as they were. `checked_at` is in
    Unix seconds.
    """

    name: str
    fingerprint: str | None
    images: int
    sizes: Sizes | None
    problems: tuple[DataProblem, ...]
    opened: int
    known: int
    checked_at: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        fields = asdict(self)
        fields["problems"] = [{**one, "files": list(one["files"])} for one in fields["problems"]]
        if self.sizes is not None:
            fields["sizes"] = {name: list(size) for name, size in fields["sizes"].items()}
        return fields


def file_problem(kind: str, severity: Severity, message: str, files: Sequence[str]) -> DataProblem:
    """A problem of files."""
    return DataProblem(kind, severity, message, tuple(files[:MOST_NAMED]), len(files))


def counted(some: Sized, noun: str) -> str:
    """How many there are: 1 file, 2 files, 3 classes."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{len(some)} {noun if len(some) == 1 else plural}"


def first_of(some: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + more
