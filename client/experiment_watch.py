"""Following an experiment until its last job ends: a table on a terminal, lines elsewhere."""

from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from client.api import ThawClient
from client.experiment_tables import live, trial_line
from client.experiments import Experiment
from client.watch import PATIENCE, follow

INTERVAL = 1.0
"""Seconds between two looks at an experiment, whose jobs take longer than that."""


def watch_experiment(
    client: ThawClient,
    experiment_id: str,
    console: Console,
    patience: float = PATIENCE,
    interval: float = INTERVAL,
) -> Experiment:
    """Shows the table as it grows, or a line for each job that ends, those that have ended before first.

    Returns:
        The ended experiment.

    Raises:
        Unreachable: when the server is not there at first, or is away for longer than `patience` seconds.
        Refused: when there is no such experiment.
    """

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    if not console.is_terminal:
        lines = _Lines(say)
        return follow(_Watcher(client, experiment_id, lines.show), say, patience, interval)
    with Live(Text(""), console=console, transient=True, auto_refresh=False) as table:
        watcher = _Watcher(
            client, experiment_id, lambda experiment: table.update(live(experiment), refresh=True)
        )
        return follow(watcher, say, patience, interval)


class _Watcher:
    """What was seen of an experiment last."""

    def __init__(self, client: ThawClient, experiment_id: str, show: Callable[[Experiment], object]) -> None:
        self.met = False
        self._client = client
        self._id = experiment_id
        self._show = show
        self._etag: str | None = None

    def look(self) -> Experiment | None:
        changed = self._client.experiment_if_changed(self._id, self._etag)
        if changed is None:
            return None
        experiment, self._etag = changed
        self.met = True
        self._show(experiment)
        return experiment if experiment.ended else None


class _Lines:
    """Says each job that has ended, once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def show(self, experiment: Experiment) -> None:
        for trial in experiment.jobs:
            if trial.ended and trial.id not in self._said:
                self._said.add(trial.id)
                self._say(trial_line(experiment, trial))
