"""The command that looks for a learning rate."""

import json
from typing import Annotated

import typer
from rich.console import Console

from client.answers import parse_json
from client.range_tests import RangeTestResult, print_range_test
from client.shell import (
    INTERRUPTED,
    JsonOption,
    PatienceOption,
    SpecArgument,
    end_with,
    open_client,
    print_json,
)
from client.specfile import read_spec
from client.tables import open_console
from client.watch import PATIENCE, end_line, watch


def find_lr(
    ctx: typer.Context,
    spec: SpecArgument,
    as_json: JsonOption = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and spec give the same job again, not another one.")
    ] = None,
    patience: PatienceOption = PATIENCE,
) -> None:
    """Look for a learning rate: raise it step by step in the first stage, and see where the loss falls.

    Nothing is trained; the spec's `range_test` says from where to where. Ctrl-C leaves the job running.
    """
    content = read_spec(spec)
    notes = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with open_client(ctx) as client:
        job = client.find_lr(content, idempotency_key)
        try:
            job = watch(client, job.id, notes, patience)
        except KeyboardInterrupt:
            typer.echo(f"{job.id} goes on; `thaw status {job.id} --json` has the curve at its end", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if job.status != "succeeded":
        typer.echo(end_line(job), err=True)
        end_with(job.status)
    found = parse_json(RangeTestResult, json.dumps(job.result), f"{ctx.obj.url}/v1/jobs/{job.id}").range_test
    if as_json:
        print_json(found)
    else:
        print_range_test(open_console(), found)
