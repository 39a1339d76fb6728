"""What commands print about experiments: tables and lines."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from client.experiments import Comparison, Experiment, Trial
from client.tables import ABSENT, moment, number, show, table_of
from client.text import one_line

MANY_SEEDS = 6
"""With more seeds than this their values would not fit beside each other."""


def experiments_table(experiments: Iterable[Experiment]) -> Table:
    """A row per experiment."""
    table = table_of("experiment", "name", "status", "jobs", "variants", "created")
    for each in experiments:
        table.add_row(
            one_line(each.id),
            one_line(each.name or ABSENT),
            one_line(each.status),
            jobs_ended(each),
            one_line(", ".join(row.variant for row in each.table)),
            moment(each.created_at),
        )
    return table


def variants_table(experiment: Experiment) -> Table:
    """A row per variant: the mean of its values, and a column per seed where there are few."""
    seeds = experiment.seeds if len(experiment.seeds) <= MANY_SEEDS else []
    columns = ["variant", "n", one_line(experiment.metric), "std", "epoch", "seconds", "failed"]
    table = table_of(*columns, *(f"seed {seed}" for seed in seeds))
    trials = {(trial.variant, trial.seed): trial for trial in experiment.jobs}
    for row in experiment.table:
        table.add_row(
            one_line(row.variant),
            str(row.n),
            number(row.mean),
            number(row.std),
            number(row.best_epoch, ".1f"),
            number(row.seconds, ".1f"),
            str(row.failed),
            *(_cell(trials.get((row.variant, seed))) for seed in seeds),
        )
    return table


def comparisons_table(comparisons: Iterable[Comparison]) -> Table:
    """A row per pair of variants."""
    table = table_of("pair", "seeds", "mean difference", "std", "p", "p adjusted", "differs")
    for pair in comparisons:
        table.add_row(
            one_line(f"{pair.a} - {pair.b}"),
            str(pair.n),
            number(pair.mean_difference, "+.4f"),
            number(pair.std_difference),
            number(pair.p_value, ".3g"),
            number(pair.p_adjusted, ".3g"),
            "yes" if pair.differs else "no",
        )
    return table


def print_experiment(console: Console, experiment: Experiment) -> None:
    """All of it: the variants, the pairs, how they are compared, and what that says."""
    show(console, variants_table(experiment))
    if experiment.comparisons:
        console.print()
        show(console, comparisons_table(experiment.comparisons))
        console.print(one_line(experiment.test), soft_wrap=True)
    console.print()
    console.print(one_line(experiment.answer), soft_wrap=True)


def live(experiment: Experiment) -> Group:
    """What stands on a terminal while the jobs run."""
    title = f"{experiment.id} {experiment.status}, {jobs_ended(experiment)} jobs ended"
    return Group(Text(one_line(title)), variants_table(experiment), Text(one_line(experiment.answer)))


def trial_line(experiment: Experiment, trial: Trial) -> str:
    """How one job ended, in one line."""
    said = f"{trial.variant} with seed {trial.seed} {trial.status}"
    if trial.value is not None:
        said += f": {experiment.metric} {number(trial.value)} at epoch {trial.best_epoch or ABSENT}"
    if trial.seconds is not None:
        said += f", {number(trial.seconds, '.1f')} s"
    return one_line(f"{said} ({jobs_ended(experiment)} jobs ended, {trial.id})")


def jobs_ended(experiment: Experiment) -> str:
    """How many of its jobs have ended."""
    return f"{sum(trial.ended for trial in experiment.jobs)}/{len(experiment.jobs)}"


def _cell(trial: Trial | None) -> str:
    """A succeeded job's value, another one's status."""
    if trial is None:
        return ABSENT
    return number(trial.value) if trial.status == "succeeded" else one_line(trial.status)
