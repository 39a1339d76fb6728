"""The command line `thaw`."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from client import (
    checkpoint_commands,
    control_commands,
    dataset_commands,
    experiment_commands,
    predict_commands,
    processes,
    rate_commands,
    report_commands,
    tables,
    upkeep_commands,
)
from client.models import Format
from client.plan_tables import print_plan
from client.progress import transfer_bar
from client.shell import (
    EXIT_CODES,
    JobArgument,
    JsonOption,
    OneLineErrors,
    PatienceOption,
    Server,
    SpecArgument,
    open_client,
    print_json,
    to_json,
)
from client.specfile import read_spec
from client.watch import PATIENCE
from client.watching import watch_to_its_end

DEFAULT_URL = "http://127.0.0.1:8321"
EXPERIMENT = "exp_"  # what experiments' IDs begin with

app = typer.Typer(
    name="thaw",
    cls=OneLineErrors,
    help="Fine-tunes image models in stages: submits jobs, follows them, downloads checkpoints.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[str, typer.Option("--url", envvar="THAW_URL", help="The server's address.")] = DEFAULT_URL,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            envvar="THAW_API_KEY",
            metavar="KEY",
            help="The server's key. Better in the variable or a file: others see a command's options.",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", envvar="THAW_API_KEY_FILE", help="A file with the key, with mode 600."),
    ] = None,
) -> None:
    """Takes what all commands share."""
    ctx.obj = Server(url, key or None, key_file)


@app.command()
def up() -> None:
    """Start the server and a worker; Ctrl-C ends both."""
    services = {
        "server": processes.module_command("app", "serve"),
        "worker": processes.module_command("worker"),
    }
    processes.run_up(processes.module_command("app", "prepare"), services)


@app.command()
def serve() -> None:
    """Start the server alone."""
    processes.migrate(processes.module_command("app", "migrate"))
    processes.become(processes.module_command("app", "serve"))


@app.command()
def worker() -> None:
    """Start a worker alone."""
    processes.become(processes.module_command("worker"))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
def keys(arguments: Annotated[list[str] | None, typer.Argument(metavar="create|list|revoke")] = None) -> None:
    """Make, list and revoke keys, on the server's machine; `thaw keys create --help` says more."""
    processes.become(processes.module_command("app", "keys", *(arguments or ["--help"])))


@app.command()
def submit(
    ctx: typer.Context,
    spec: SpecArgument,
    follow: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and spec give the same job again, not another one.")
    ] = None,
) -> None:
    """Submit a job, and print its ID."""
    content = read_spec(spec)
    with open_client(ctx) as client:
        job = client.submit(content, idempotency_key)
        typer.echo(job.id)
        if follow:
            watch_to_its_end(client, job.id, PATIENCE)


@app.command()
def plan(ctx: typer.Context, spec: SpecArgument, as_json: JsonOption = False) -> None:
    """Show what a spec would freeze and train, and at which rates, without training."""
    content = read_spec(spec)
    with open_client(ctx) as client:
        answer = client.plan(content)
    if as_json:
        print_json(answer)
    else:
        print_plan(tables.open_console(), answer)


@app.command()
def jobs(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only jobs of the experiment with this ID.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with open_client(ctx) as client:
        page = client.jobs(limit=limit, status=status, experiment=experiment)
    if as_json:
        print_json(page)
        return
    tables.show(tables.open_console(), tables.jobs_table(page.data))
    if page.has_more:
        typer.echo("there are older jobs; --limit shows more", err=True)


@app.command()
def status(ctx: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with open_client(ctx) as client:
        job = client.job(job_id)
    if as_json:
        print_json(job)
    else:
        tables.show(tables.open_console(), tables.job_table(job))


@app.command("watch")
def watch_job(ctx: typer.Context, job_id: JobArgument, patience: PatienceOption = PATIENCE) -> None:
    """Follow a job until it ends. Ctrl-C leaves it running.

    Exits with 0 where the job succeeded, 1 where it failed, 3 where it was cancelled.
    """
    with open_client(ctx) as client:
        watch_to_its_end(client, job_id, patience)


@app.command()
def metrics(ctx: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show a job's epochs."""
    with open_client(ctx) as client:
        records = client.metrics(job_id)
    if as_json:
        print_json(records)
    else:
        tables.show(tables.open_console(), tables.metrics_table(records))


@app.command()
def events(
    ctx: typer.Context,
    job_id: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to a job."""
    with open_client(ctx) as client:
        if follow:
            for event in client.stream_events(job_id):
                typer.echo(to_json(event, indent=None) if as_json else "  ".join(tables.event_cells(event)))
            return
        past = client.events(job_id)
    if as_json:
        print_json(past)
    else:
        tables.show(tables.open_console(), tables.events_table(past))


@app.command()
def cancel(
    ctx: typer.Context,
    cancelled: Annotated[str, typer.Argument(metavar="ID", help="A job's ID, or an experiment's.")],
) -> None:
    """Cancel a job, or all jobs of an experiment that have not ended."""
    with open_client(ctx) as client:
        if cancelled.startswith(EXPERIMENT):
            typer.echo(f"{cancelled} {client.cancel_experiment(cancelled).status}")
        else:
            typer.echo(f"{cancelled} {client.cancel(cancelled).status}")


@app.command()
def download(
    ctx: typer.Context,
    job_id: JobArgument,
    checkpoint: Annotated[str, typer.Argument(help="best, last or a checkpoint's ID.")] = "best",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file, or a folder to put it in.")
    ] = Path(),
    as_format: Annotated[
        Format | None,
        typer.Option("--format", help="A zip with the model in this format, and a model card."),
    ] = None,
    preprocessing: Annotated[
        bool,
        typer.Option("--preprocessing", help="The model (onnx, exported) takes decoded images of any size."),
    ] = False,
) -> None:
    """Download a checkpoint, and print the file's name. What broke off is continued.

    With --format the server makes the file when it is first asked for, and compares it with the checkpoint,
    which may take minutes.
    """
    waiting = f"the server makes the {as_format} file and compares it" if as_format else ""
    with open_client(ctx) as client, transfer_bar(waiting) as report:
        path = client.download(job_id, checkpoint, output, report, as_format, preprocessing)
    typer.echo(str(path))


for command in (
    checkpoint_commands.checkpoints,
    control_commands.pause,
    control_commands.resume,
    control_commands.retry,
    control_commands.branch,
    dataset_commands.datasets,
    dataset_commands.dataset,
    dataset_commands.upload,
    experiment_commands.compare,
    experiment_commands.experiment,
    experiment_commands.experiments,
    rate_commands.find_lr,
    report_commands.report,
    predict_commands.predict,
    upkeep_commands.doctor,
    upkeep_commands.backup,
):
    app.command()(command)


def main() -> None:
    """The console entry."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a job's name may not fit the terminal's encoding
    app()


if __name__ == "__main__":
    main()
