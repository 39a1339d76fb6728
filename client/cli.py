"""The command line `thaw`."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from client import processes, tables
from client.api import ThawClient
from client.errors import ThawError
from client.models import Answer
from client.plan_tables import print_plan
from client.progress import download_bar
from client.specfile import read_spec
from client.watch import PATIENCE, end_line, watch

DEFAULT_URL = "http://127.0.0.1:8321"
EXIT_OF_STATUS = {"succeeded": 0, "failed": 1, "cancelled": 3}
INTERRUPTED = 130
EXIT_CODES = """\b
Exit codes:
  0    done; a watched job succeeded
  1    failed: the job, a download, a process, or the server's refusal of an action
  2    wrong usage, or input that the server refuses
  3    a watched job was cancelled
  4    no server at the address
  130  interrupted by Ctrl-C
"""


class OneLineErrors(TyperGroup):
    """Ends a command that raises one of the client's errors with the error's lines and exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own Context is not exported
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except ThawError as error:
            _fail(error.lines(), error.exit_code)
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe has gone
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail([f"{where}{error.strerror or error}"], 1)


app = typer.Typer(
    name="thaw",
    cls=OneLineErrors,
    help="Fine-tunes image models in stages: submits jobs, follows them, downloads checkpoints.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="A .json or .yaml file, or - for standard input.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
PatienceOption = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for a server that has gone away.")
]


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[str, typer.Option("--url", envvar="THAW_URL", help="The server's address.")] = DEFAULT_URL,
) -> None:
    """Takes what all commands share."""
    ctx.obj = url


@app.command()
def up() -> None:
    """Start the server and a worker; Ctrl-C ends both."""
    services = {
        "server": processes.module_command("app", "serve"),
        "worker": processes.module_command("worker"),
    }
    processes.run_up(processes.module_command("app", "migrate"), services)


@app.command()
def serve() -> None:
    """Start the server alone."""
    processes.migrate(processes.module_command("app", "migrate"))
    processes.become(processes.module_command("app", "serve"))


@app.command()
def worker() -> None:
    """Start a worker alone."""
    processes.become(processes.module_command("worker"))


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
    with _client(ctx) as client:
        job = client.submit(content, idempotency_key)
        typer.echo(job.id)
        if follow:
            _watch(client, job.id, PATIENCE)


@app.command()
def plan(ctx: typer.Context, spec: SpecArgument, as_json: JsonOption = False) -> None:
    """Show what a spec would freeze and train, and at which rates, without training."""
    content = read_spec(spec)
    with _client(ctx) as client:
        answer = client.plan(content)
    if as_json:
        _print_json(answer)
    else:
        print_plan(tables.open_console(), answer)


@app.command()
def jobs(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with _client(ctx) as client:
        page = client.jobs(limit=limit, status=status)
    if as_json:
        _print_json(page)
        return
    tables.show(tables.open_console(), tables.jobs_table(page.data))
    if page.has_more:
        typer.echo("there are older jobs; --limit shows more", err=True)


@app.command()
def status(ctx: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with _client(ctx) as client:
        job = client.job(job_id)
    if as_json:
        _print_json(job)
    else:
        tables.show(tables.open_console(), tables.job_table(job))


@app.command("watch")
def watch_job(ctx: typer.Context, job_id: JobArgument, patience: PatienceOption = PATIENCE) -> None:
    """Follow a job until it ends. Ctrl-C leaves it running.

    Exits with 0 where the job succeeded, 1 where it failed, 3 where it was cancelled.
    """
    with _client(ctx) as client:
        _watch(client, job_id, patience)


@app.command()
def metrics(ctx: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show a job's epochs."""
    with _client(ctx) as client:
        records = client.metrics(job_id)
    if as_json:
        _print_json(records)
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
    with _client(ctx) as client:
        if follow:
            for event in client.stream_events(job_id):
                typer.echo(_json(event, indent=None) if as_json else "  ".join(tables.event_cells(event)))
            return
        past = client.events(job_id)
    if as_json:
        _print_json(past)
    else:
        tables.show(tables.open_console(), tables.events_table(past))


@app.command()
def cancel(ctx: typer.Context, job_id: JobArgument) -> None:
    """Cancel a job."""
    with _client(ctx) as client:
        job = client.cancel(job_id)
    typer.echo(f"{job.id} {job.status}")


@app.command()
def download(
    ctx: typer.Context,
    job_id: JobArgument,
    checkpoint: Annotated[str, typer.Argument(help="best, last or a checkpoint's ID.")] = "best",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file, or a folder to put it in.")
    ] = Path(),
) -> None:
    """Download a checkpoint, and print the file's name. What broke off is continued."""
    with _client(ctx) as client, download_bar() as report:
        path = client.download(job_id, checkpoint, output, report)
    typer.echo(str(path))


def main() -> None:
    """The console entry."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a job's name may not fit the terminal's encoding
    app()


def _client(ctx: typer.Context) -> ThawClient:
    return ThawClient(ctx.obj)


def _watch(client: ThawClient, job_id: str, patience: float) -> NoReturn:
    try:
        job = watch(client, job_id, tables.open_console(), patience)
    except KeyboardInterrupt:
        typer.echo(f"{job_id} goes on; `thaw watch {job_id}` follows it again", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(end_line(job))
    raise typer.Exit(EXIT_OF_STATUS.get(job.status, 1))


def _json(answer: Answer, indent: int | None = 2) -> str:
    return answer.model_dump_json(exclude_unset=True, indent=indent)


def _print_json(answer: Answer | Sequence[Answer]) -> None:
    if isinstance(answer, Answer):
        typer.echo(_json(answer))
    else:
        typer.echo(f"[{', '.join(_json(item) for item in answer)}]")


def _fail(lines: Sequence[str], exit_code: int) -> NoReturn:
    for number, line in enumerate(lines):
        typer.echo(line if number else f"thaw: {line}", err=True)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    main()
