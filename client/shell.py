"""What the commands of the command line share: options, exit codes, errors as one line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from client.api import ThawClient
from client.errors import ThawError
from client.keys import read_key
from client.models import Answer

EXIT_OF_STATUS = {"succeeded": 0, "failed": 1, "cancelled": 3}
INTERRUPTED = 130
EXIT_CODES = """\b
Exit codes:
  0    done; a watched job or experiment succeeded
  1    failed: the job, a download, a process, or the server's refusal of an action
  2    wrong usage, or input that the server refuses
  3    a watched job or experiment was cancelled
  4    no server at the address
  130  interrupted by Ctrl-C
"""

SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="A .json or .yaml file, or - for standard input.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
PatienceOption = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for a server that has gone away.")
]


@dataclass(frozen=True)
class Server:
    """The server that the command line names, and the key for it or the file that it is in."""

    url: str
    key: str | None = field(default=None, repr=False)
    key_file: Path | None = None


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


def open_client(ctx: typer.Context) -> ThawClient:
    """A client of the server that the command line names."""
    server: Server = ctx.obj
    key = server.key
    if key is None and server.key_file is not None:
        key = read_key(server.key_file)
    return ThawClient(server.url, key=key)


def to_json(answer: Answer, indent: int | None = 2) -> str:
    """An answer as it was sent."""
    return answer.model_dump_json(exclude_unset=True, indent=indent)


def print_json(answer: Answer | Sequence[Answer]) -> None:
    """Prints an answer, or a list of them, as they were sent."""
    if isinstance(answer, Answer):
        typer.echo(to_json(answer))
    else:
        typer.echo(f"[{', '.join(to_json(item) for item in answer)}]")


def end_with(status: str) -> NoReturn:
    """Ends the command with the exit code of what was watched."""
    raise typer.Exit(EXIT_OF_STATUS.get(status, 1))


def _fail(lines: Sequence[str], exit_code: int) -> NoReturn:
    for number, line in enumerate(lines):
        typer.echo(line if number else f"thaw: {line}", err=True)
    raise typer.Exit(exit_code)
