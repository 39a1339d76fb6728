"""The bar of a download."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from client.download import Report


@contextmanager
def download_bar() -> Iterator[Report | None]:
    """Gives what to report a download's bytes to; None where nobody looks at a terminal.

    The bar is on standard error: standard output is the file's name, for `$(thaw download …)`.
    """
    if not sys.stderr.isatty():
        yield None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("download", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
