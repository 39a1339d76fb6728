"""Following a job from the command line: shown until it ends, with the exit code of how it ended."""

from typing import NoReturn

import typer

from client.api import ThawClient
from client.shell import INTERRUPTED, end_with
from client.tables import open_console
from client.watch import end_line, watch


def watch_to_its_end(client: ThawClient, job_id: str, patience: float) -> NoReturn:
    """Shows a job until it ends, then ends the command. Ctrl-C leaves the job running."""
    try:
        job = watch(client, job_id, open_console(), patience)
    except KeyboardInterrupt:
        typer.echo(f"{job_id} goes on; `thaw watch {job_id}` follows it again", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(end_line(job))
    end_with(job.status)
