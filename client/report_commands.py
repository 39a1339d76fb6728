"""The command that shows a job's report."""

import re
from pathlib import Path
from typing import Annotated

import typer

from client.progress import transfer_bar
from client.report_page import render
from client.report_tables import print_report
from client.shell import JobArgument, JsonOption, open_client, print_json
from client.tables import open_console


def report(
    ctx: typer.Context,
    job_id: JobArgument,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            "--output",
            "-o",
            metavar="FILE",
            help="Where the page goes, a file or a folder; report-JOB.html unless said.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Download what was said of each image, too: a Parquet file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a job's best checkpoint gets right and wrong, and write it with the curves as an HTML page.

    With --json a page is written only where --html says where.
    """
    with open_client(ctx) as client:
        found = client.report(job_id)
        if as_json:
            print_json(found)
        else:
            print_report(open_console(), found)
        if html is not None or not as_json:
            text = render(found, client.job(job_id), client.metrics(job_id))
            target = _target(html or Path(), job_id)
            target.write_text(text, encoding="utf-8")
            typer.echo(f"\nthe page is {target}", err=as_json)
        if predictions is not None:
            with transfer_bar() as bar:
                path = client.predictions(job_id, predictions, bar)
            typer.echo(f"the predictions are {path}", err=as_json)


def _target(given: Path, job_id: str) -> Path:
    name = re.sub(r"[^\w-]", "_", job_id)
    return given / f"report-{name}.html" if given.is_dir() else given
