"""Following a job until it ends: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from client.api import ThawClient
from client.errors import Refused, Unreachable
from client.models import Job, Progress
from client.tables import best, epoch_line, failure
from client.text import one_line

INTERVAL = 0.5
"""Seconds between two looks at a job; one that has not changed is answered without a body."""
PATIENCE = 30.0
"""Seconds that a server may be away, which a restart takes less than."""
SERVER_ERRORS = 500


Ended = TypeVar("Ended", covariant=True)


class View(Protocol):
    """Where a watched job is shown."""

    def say(self, line: str) -> None:
        """Shows a line that stays."""

    def update(self, job: Job) -> None:
        """Shows where the job is now."""


class Watcher(Protocol[Ended]):
    """What looks at something that ends; `met` says whether it has been seen yet."""

    met: bool

    def look(self) -> Ended | None:
        """Shows what is new; returns what is watched once it has ended."""


def watch(
    client: ThawClient, job_id: str, console: Console, patience: float = PATIENCE, interval: float = INTERVAL
) -> Job:
    """Shows a job's epochs and warnings as they come, those that are there already first.

    Returns:
        The ended job.

    Raises:
        Unreachable: when the server is not there at first, or is away for longer than `patience` seconds.
        Refused: when there is no such job.
    """
    with _open_view(console) as view:
        return follow(_Watcher(client, job_id, view), view.say, patience, interval)


def follow(watcher: Watcher[Ended], say: Callable[[str], None], patience: float, interval: float) -> Ended:
    """Looks again and again until there is an end, with patience for a server that is away for a while.

    Raises:
        Unreachable: when the server is not there at first, or is away for longer than `patience` seconds.
        Refused: when there is nothing to look at.
    """
    contact = time.monotonic()
    away = False
    while True:
        try:
            if (ended := watcher.look()) is not None:
                return ended
            contact, away = time.monotonic(), False
        except (Unreachable, Refused) as error:
            if not watcher.met or not _passing(error) or time.monotonic() - contact > patience:
                raise
            if not away:
                say(f"the server does not answer; trying for {patience:g} s")
            away = True
        time.sleep(interval)


class _Watcher:
    """What has been shown of a job so far."""

    def __init__(self, client: ThawClient, job_id: str, view: View) -> None:
        self.met = False
        self._client = client
        self._id = job_id
        self._view = view
        self._etag: str | None = None
        self._epoch = 0
        self._event = 0
        self._status: tuple[str, str | None] | None = None

    def look(self) -> Job | None:
        """Shows what is new; returns the job once it has ended."""
        changed = self._client.job_if_changed(self._id, self._etag)
        if changed is None:
            return None
        job, etag = changed
        self.met = True
        self._show_status(job)
        self._show_news()  # read after the job: the records of an ended one are then all there
        self._view.update(job)
        # Kept last: a look that breaks off on the way is made again in full.
        self._etag = etag
        return job if job.ended else None

    def _show_news(self) -> None:
        records = self._client.metrics(self._id, self._epoch)
        events = self._client.events(self._id, self._event)
        news = [(record.created_at or 0.0, epoch_line(record)) for record in records]
        news += [
            (event.created_at or 0.0, one_line(f"{event.level}: {event.message}"))
            for event in events
            if event.level != "info"
        ]
        for _, line in sorted(news, key=lambda item: item[0]):
            self._view.say(line)
        self._epoch = max([self._epoch, *(record.global_epoch for record in records)])
        self._event = max([self._event, *(event.id for event in events)])

    def _show_status(self, job: Job) -> None:
        status = (job.status, job.status_reason)
        if status != self._status and not job.ended:
            self._view.say(
                one_line(f"{job.status}: {job.status_reason}" if job.status_reason else job.status)
            )
        self._status = status


def end_line(job: Job) -> str:
    """How a job ended, in one line."""
    if job.status == "succeeded":
        score = f"; best {best(job)}" if job.best else ""
        return one_line(f"{job.id} succeeded{score}; get it with `thaw download {job.id}`")
    if job.status == "failed":
        return one_line(f"{job.id} failed: {failure(job)}")
    reason = f": {job.status_reason}" if job.status_reason else ""
    return one_line(f"{job.id} {job.status}{reason}")


def stage_part(progress: Progress) -> float:
    """How much of its stage a job has done, from 0 to 1."""
    if not progress.epochs or progress.epoch is None:
        return 0.0
    in_epoch = min((progress.step or 0) / progress.steps, 1.0) if progress.steps else 0.0
    return min(max((progress.epoch - 1 + in_epoch) / progress.epochs, 0.0), 1.0)


def stage_names(job: Job) -> list[str]:
    """The names of the job's stages, as far as the server says them."""
    stages = (job.resolved_spec or {}).get("stages") or []
    names = [stage.get("name") if isinstance(stage, dict) else None for stage in stages]
    if not names and job.progress is not None:
        names = [None] * max(job.progress.stages or 0, job.progress.stage_index + 1)
        names[job.progress.stage_index] = job.progress.stage
    return [one_line(str(name or f"stage {number}")) for number, name in enumerate(names, start=1)]


class _LineView:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def update(self, job: Job) -> None:
        """Lines alone: a position that moves on would fill a log."""


class _BarView(_LineView):
    """A bar per stage, below the lines."""

    def __init__(self, bars: Bars) -> None:
        super().__init__(bars.console)
        self._bars = bars
        self._stages: list[TaskID] = []

    def update(self, job: Job) -> None:
        progress = job.progress
        if progress is None:
            return
        if not self._stages:
            self._stages = [self._bars.add_task(name, total=1.0, at="") for name in stage_names(job)]
        for index, task in enumerate(self._stages):
            if index < progress.stage_index or job.status == "succeeded":
                self._bars.update(task, completed=1.0)  # one that stopped early is done, too
            elif index == progress.stage_index:
                self._bars.update(task, completed=stage_part(progress), at=_position(progress))


def _position(progress: Progress) -> str:
    parts = []
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch}/{progress.epochs or '?'}")
    if progress.images_per_second is not None:
        parts.append(f"{progress.images_per_second:.0f} img/s")
    return "  ".join(parts)


@contextmanager
def _open_view(console: Console) -> Iterator[View]:
    if not console.is_terminal:
        yield _LineView(console)
        return
    name = TextColumn("{task.description}", markup=False)
    at = TextColumn("{task.fields[at]}", markup=False)
    with Bars(name, BarColumn(), at, console=console) as bars:
        yield _BarView(bars)


def _passing(error: Unreachable | Refused) -> bool:
    """Whether waiting can help: nobody answers, or the server has trouble of its own."""
    return isinstance(error, Unreachable) or error.status >= SERVER_ERRORS
