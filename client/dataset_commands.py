"""The commands about datasets: datasets, dataset, upload."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from client.api import ThawClient
from client.dataset_tables import datasets_table, print_dataset, print_problems
from client.datasets import Dataset
from client.progress import check_bar, transfer_bar
from client.shell import INTERRUPTED, JsonOption, open_client, print_json
from client.tables import open_console, show

LOOK_SECONDS = 1.0
"""How long the server waits for a check's end before it says how far it is."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name.")]


def datasets(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the datasets that jobs may name."""
    with open_client(ctx) as client:
        found = client.datasets()
    if as_json:
        print_json(found)
    else:
        show(open_console(), datasets_table(found))


def dataset(ctx: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Check a dataset's files, and show its classes and what is wrong.

    Exits with 0 where a job can train on it, also with warnings, and with 1 where there are errors. Ctrl-C
    leaves the check running.
    """
    with open_client(ctx) as client:
        found = _checked(client, name)
    if as_json:
        print_json(found)
    else:
        print_dataset(open_console(), found)
    failed = found.check is not None and found.check.status == "failed"
    if failed or found.of_severity("error"):
        raise typer.Exit(1)


def upload(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What jobs will call the dataset.")],
    source: Annotated[Path, typer.Argument(metavar="FOLDER|ZIP", help="A folder, or a zip archive.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace a dataset of that name.")] = False,
) -> None:
    """Upload a dataset, and print its name; then check its files, and say what is wrong.

    The server takes in all of it or nothing. Hidden files of a folder are left out.
    """
    with open_client(ctx) as client:
        with transfer_bar() as report:
            sent = client.upload(name, source, replace, report)
        typer.echo(sent.name)
        found = _checked(client, name)
    # On standard error, as standard output is the name, for `$(thaw upload …)`.
    print_problems(Console(stderr=True, markup=False, emoji=False, highlight=False), found)


def _checked(client: ThawClient, name: str) -> Dataset:
    """The dataset once its check has ended."""
    try:
        with check_bar() as report:
            while True:
                found = client.dataset(name, LOOK_SECONDS)
                if found.check is None or found.check.ended:
                    return found
                if report is not None:
                    report(found.check.done, found.check.total)
    except KeyboardInterrupt:
        typer.echo(f"the check goes on; `thaw dataset {name}` shows what it finds", err=True)
        raise typer.Exit(INTERRUPTED) from None
