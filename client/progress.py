"""The bars of a download, an upload and a check. All on standard error: standard output is the answer."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from client.download import Report


@contextmanager
def transfer_bar(waiting: str = "") -> Iterator[Report | None]:
    """Gives what to report a download's or an upload's bytes to; None where nobody looks at a terminal.

    Until the first bytes come, the bar says what it is `waiting` for.
    """
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with _bar(TextColumn("{task.description}"), *columns, waiting=waiting) as report:
        yield report


@contextmanager
def check_bar() -> Iterator[Report | None]:
    """Gives what to report the files to that a check has looked at; None where nobody looks at a terminal."""
    with _bar(TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TextColumn("files")) as report:
        yield report


@contextmanager
def _bar(*columns: ProgressColumn, waiting: str = "") -> Iterator[Report | None]:
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(waiting, total=None)
        yield lambda done, total: bar.update(task, description="", completed=done, total=total)
