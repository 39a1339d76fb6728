"""What commands print about datasets."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from client.datasets import Dataset, DatasetProblem, Size
from client.tables import ABSENT, moment, show, table_of
from client.text import one_line

MOST_FILES = 20
"""Files that are named of one problem; `--json` has more."""
MOST_CLASSES = 5


def datasets_table(datasets: Iterable[Dataset]) -> Table:
    """A row per dataset."""
    table = table_of("dataset", "images", "splits", "classes", "problems")
    for found in datasets:
        splits = ", ".join(f"{one_line(split)} {sum(by.values())}" for split, by in found.counts.items())
        names = ", ".join(one_line(name) for name in found.classes[:MOST_CLASSES])
        more = ", …" if len(found.classes) > MOST_CLASSES else ""
        classes = f"{len(found.classes)}: {names}{more}" if names else "0"
        problems = "; ".join(one_line(problem.message) for problem in found.problems)
        table.add_row(one_line(found.name), str(found.images), splits, classes, problems or ABSENT)
    return table


def print_dataset(console: Console, found: Dataset) -> None:
    """A dataset: what it is, its classes by split, what is wrong with it."""
    labels = "any number of labels an image" if found.multi_label else "one label an image"
    images, classes = _counted(found.images, "image"), _counted(len(found.classes), "class")
    lines = [f"{found.name}: {images}, {classes}, {labels}"]
    if found.sizes is not None:
        sizes = found.sizes
        smallest, median, largest = _size(sizes.smallest), _size(sizes.median), _size(sizes.largest)
        lines.append(f"sizes: {smallest} to {largest}, the median {median} pixels")
    if found.fingerprint is not None:
        lines.append(f"fingerprint: {found.fingerprint}")
    if found.check is not None and found.check.checked_at is not None:
        lines.append(f"checked: {moment(found.check.checked_at, seconds=True)}")
    for line in lines:
        console.print(one_line(line), soft_wrap=True)
    if found.counts and found.classes:
        console.print()
        show(console, counts_table(found))
    console.print()
    print_problems(console, found)


def print_problems(console: Console, found: Dataset) -> None:
    """What is wrong, errors first, each with its files."""
    console.print(verdict(found), soft_wrap=True)
    for severity in ("error", "warning"):
        for problem in found.of_severity(severity):
            console.print(one_line(f"{severity}: {problem.message} ({problem.kind})"), soft_wrap=True)
            for line in _file_lines(problem):
                console.print(f"  {line}", soft_wrap=True)


def counts_table(found: Dataset) -> Table:
    """A row per class, a column per split."""
    splits = list(found.counts)
    table = table_of("class", *(one_line(split) for split in splits))
    for name in found.classes:
        table.add_row(one_line(name), *(str(found.counts[split].get(name, 0)) for split in splits))
    return table


def verdict(found: Dataset) -> str:
    """The check's outcome in a line."""
    errors, warnings = len(found.of_severity("error")), len(found.of_severity("warning"))
    parts = [_counted(errors, "error")] * bool(errors) + [_counted(warnings, "warning")] * bool(warnings)
    if found.check is not None and found.check.status == "failed":
        reason = one_line(found.check.message or "no reason given")
        return "; ".join([f"the files could not be checked: {reason}", *parts])
    return ", ".join(parts) if parts else "no problems found"


def _file_lines(problem: DatasetProblem) -> list[str]:
    shown = [one_line(name) for name in problem.files[:MOST_FILES]]
    hidden = max(problem.count, len(problem.files)) - len(shown)
    return [*shown, *([f"and {hidden} more"] if shown and hidden > 0 else [])]


def _counted(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _size(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
