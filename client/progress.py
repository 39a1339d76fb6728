"""The bar of a download."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from client.download import Report


@contextmanager
def download_bar(waiting: str = "") -> Iterator[Report | None]:
    """Gives what to report a download's bytes to; None where nobody looks at a terminal.

    Until the first bytes come, the bar says what it is `waiting` for.
    The bar is on standard error: standard output is the file's name, for `$(thaw download …)`.
    """
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(waiting, total=None)
        yield lambda done, total: bar.update(task, description="", completed=done, total=total)
