"""The command that lists a job's checkpoints."""

from collections.abc import Iterable

import typer
from rich.filesize import decimal
from rich.table import Table

from client.models import Checkpoint
from client.shell import JobArgument, JsonOption, open_client, print_json
from client.tables import ABSENT, moment, number, open_console, show, table_of
from client.text import one_line


def checkpoints(ctx: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """List a job's checkpoints, oldest first: what can be downloaded, asked, and branched from."""
    with open_client(ctx) as client:
        found = client.checkpoints(job_id)
    if as_json:
        print_json(found)
    else:
        show(open_console(), checkpoints_table(found))


def checkpoints_table(found: Iterable[Checkpoint]) -> Table:
    """A row per checkpoint."""
    table = table_of("checkpoint", "epoch", "stage", "value", "size", "created", "")
    for checkpoint in found:
        table.add_row(
            one_line(checkpoint.id),
            ABSENT if checkpoint.global_epoch is None else str(checkpoint.global_epoch),
            one_line(checkpoint.stage or ABSENT),
            one_line(f"{checkpoint.metric} {number(checkpoint.value)}") if checkpoint.metric else ABSENT,
            ABSENT if checkpoint.size is None else decimal(checkpoint.size),
            moment(checkpoint.created_at),
            ", ".join(name for name in ("best", "last") if getattr(checkpoint, name)),
        )
    return table
