"""The commands that stop a job for a while, let it go on, or begin another one where it was."""

from typing import Annotated

import typer

from client.shell import JobArgument, open_client
from client.specfile import read_patch
from client.watch import PATIENCE
from client.watching import watch_to_its_end


def pause(ctx: typer.Context, job_id: JobArgument) -> None:
    """Take a job from its worker, which saves at its next step. `thaw resume` lets it go on from there."""
    with open_client(ctx) as client:
        typer.echo(f"{job_id} {client.pause(job_id).status}")


def resume(ctx: typer.Context, job_id: JobArgument) -> None:
    """Queue a paused job again; it goes on where it was."""
    with open_client(ctx) as client:
        typer.echo(f"{job_id} {client.resume(job_id).status}")


def retry(ctx: typer.Context, job_id: JobArgument) -> None:
    """Submit the spec of a failed or cancelled job again, and print the new job's ID."""
    with open_client(ctx) as client:
        typer.echo(client.retry(job_id).id)


def branch(
    ctx: typer.Context,
    job_id: JobArgument,
    patch: Annotated[
        str,
        typer.Argument(
            metavar="PATCH",
            help="A .json or .yaml file, or - for standard input: the stages or the recipe that follow, and "
            "other fields of the spec that differ.",
        ),
    ],
    checkpoint: Annotated[
        str, typer.Option(help="Where it starts: best, last or a checkpoint's ID.")
    ] = "best",
    follow: Annotated[bool, typer.Option("--watch", help="Follow the new job until it ends.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and patch give the same job again, not another one.")
    ] = None,
) -> None:
    """Submit a job that starts from another's checkpoint with a new plan, and print its ID.

    All that the patch does not say is as in the other job, whose classifier is kept.
    """
    content = read_patch(patch)
    with open_client(ctx) as client:
        job = client.branch(job_id, content, checkpoint, idempotency_key)
        typer.echo(job.id)
        if follow:
            watch_to_its_end(client, job.id, PATIENCE)
