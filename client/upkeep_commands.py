"""Commands for whoever runs Thaw, on the machine where it runs: `thaw doctor`, `thaw backup`."""

from pathlib import Path
from typing import Annotated

import typer

from client import processes


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look at this installation: what is wrong, and how to mend it.

    Device, database, folders, versions, stuck jobs; it changes nothing. Exits with 1 where something keeps
    Thaw from working, else with 0.
    """
    processes.become(processes.module_command("app", "doctor", *(["--json"] if as_json else [])))


def backup(
    file: Annotated[Path, typer.Argument(help="A new file for the copy of the database.")],
    artifacts: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the checkpoints and reports that the database names; may be one of before."
        ),
    ] = None,
) -> None:
    """Make a consistent copy of the database while Thaw runs.

    Exits with 1 where it cannot be made, or where files are lost that the database names.
    """
    folder = ["--artifacts", str(artifacts)] if artifacts is not None else []
    processes.become(processes.module_command("app", "backup", str(file), *folder))
