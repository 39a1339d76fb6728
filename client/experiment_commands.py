"""The commands about experiments: compare, experiment, experiments."""

from typing import Annotated, Any

import typer

from client.experiment_tables import experiments_table, print_experiment
from client.experiment_watch import watch_experiment
from client.shell import (
    INTERRUPTED,
    JsonOption,
    PatienceOption,
    SpecArgument,
    end_with,
    open_client,
    print_json,
)
from client.specfile import read_spec, read_variants
from client.tables import open_console, show
from client.watch import PATIENCE

MOST_SEEDS = 50  # of an experiment


def compare(
    ctx: typer.Context,
    spec: SpecArgument,
    recipes: Annotated[
        str | None, typer.Option(help="Recipes to compare, with commas: two_stage,joint.")
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Variants to compare: a .json or .yaml list of {name, patch}."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="How many (3: 0, 1 and 2), or which, with commas (0,5,7).")
    ] = "3",
    metric: Annotated[
        str | None, typer.Option(help="What is compared; what the spec's objective is chosen by unless said.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name; the spec's unless said.")] = None,
    patience: PatienceOption = PATIENCE,
) -> None:
    """Train variants of a spec with several seeds, and say which differ by more than the noise.

    Ctrl-C leaves it running. Exits as `thaw watch` does.
    """
    numbers = _seeds(seeds)
    base = read_spec(spec)
    compared = [{"name": each, "patch": {"recipe": {"name": each}}} for each in _parts(recipes or "")]
    compared += read_variants(variants) if variants is not None else []
    if not compared:
        raise typer.BadParameter("give --recipes or --variants, or both: there is nothing to compare")
    own_name = base.pop("name", None)
    if base.pop("seed", None) is not None:
        typer.echo(f"the spec's seed is left out: the seeds are {', '.join(map(str, numbers))}", err=True)
    body: dict[str, Any] = {"spec": base, "variants": compared, "seeds": numbers}
    said = {"name": own_name if name is None else name, "metric": metric}
    body |= {field: value for field, value in said.items() if value is not None}
    with open_client(ctx) as client:
        made = client.create_experiment(body)
        typer.echo(made.id)
        console = open_console()
        try:
            ended = watch_experiment(client, made.id, console, patience)
        except KeyboardInterrupt:
            typer.echo(
                f"{made.id} goes on; `thaw experiment {made.id}` shows the table, "
                f"`thaw cancel {made.id}` ends it",
                err=True,
            )
            raise typer.Exit(INTERRUPTED) from None
    print_experiment(console, ended)
    end_with(ended.status)


def experiment(
    ctx: typer.Context,
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="An experiment's ID.")],
    as_json: JsonOption = False,
) -> None:
    """Show an experiment's table, and what can be said by now."""
    with open_client(ctx) as client:
        found = client.experiment(experiment_id)
    if as_json:
        print_json(found)
        return
    console = open_console()
    show(console, experiments_table([found]))
    console.print()
    print_experiment(console, found)


def experiments(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List experiments, newest first."""
    with open_client(ctx) as client:
        page = client.experiments(limit=limit)
    if as_json:
        print_json(page)
        return
    show(open_console(), experiments_table(page.data))
    if page.has_more:
        typer.echo("there are older experiments; --limit shows more", err=True)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> list[int]:
    """The first so many seeds, or those that are listed."""
    parts = _parts(text)
    if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts) or not parts:
        raise typer.BadParameter(f"{text!r} is neither a number of seeds (3) nor a list of them (0,5,7)")
    if "," in text:
        return [int(part) for part in parts]
    count = int(parts[0])
    if not 1 <= count <= MOST_SEEDS:
        raise typer.BadParameter(f"an experiment has 1 to {MOST_SEEDS} seeds")
    return list(range(count))
