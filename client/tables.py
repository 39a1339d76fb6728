"""What commands print: tables and lines."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from client.models import EpochRecord, Event, Job, Progress, Scores
from client.text import one_line

PIPE_WIDTH = 10_000
"""Columns of an output that is no terminal: nothing there may be cut or wrapped."""
ABSENT = "-"
MANY_GROUPS = 4
SPLITS = ("train", "val", "ema")
SHORT = {"accuracy": "acc"}
"""Figures whose names are shorter in a table's head."""


def open_console() -> Console:
    """A console on standard output that prints text as it is, without markup or guessed colours."""
    if sys.stdout.isatty():
        return Console(markup=False, emoji=False, highlight=False)
    # Said outright: rich takes variables such as FORCE_COLOR for a terminal.
    return Console(markup=False, emoji=False, highlight=False, force_terminal=False, width=PIPE_WIDTH)


def show(console: Console, table: Table) -> None:
    """Prints a table; into a pipe without the blanks that fill up its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(line.rstrip(), soft_wrap=True)


def table_of(*columns: str) -> Table:
    """An empty table without lines around it."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def jobs_table(jobs: Iterable[Job]) -> Table:
    """A row per job."""
    table = table_of("job", "name", "status", "at", "best", "created")
    for job in jobs:
        table.add_row(
            one_line(job.id),
            one_line(job.name or ABSENT),
            one_line(job.status),
            ABSENT if job.progress is None or job.ended else position(job.progress),
            best(job),
            moment(job.created_at),
        )
    return table


def job_table(job: Job) -> Table:
    """A row per thing to know about one job; what it does not have is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows: dict[str, str | None] = {
        "job": job.id,
        "name": job.name,
        "status": f"{job.status} ({job.status_reason})" if job.status_reason else job.status,
        "error": failure(job) if job.error else None,
        "at": position(job.progress) if job.progress and not job.ended else None,
        "best": best(job) if job.best else None,
        "attempt": f"{job.attempt} of {job.max_attempts}" if job.max_attempts else str(job.attempt),
        "worker": job.worker,
        "parent": job.parent,
        "branched from": job.branched_from,
        "owner": job.owner,
        "data": job.dataset_fingerprint,
        "created": moment(job.created_at),
        "started": moment(job.started_at) if job.started_at else None,
        "finished": moment(job.finished_at) if job.finished_at else None,
        "expected end": moment(job.estimated_finish) if job.estimated_finish and not job.ended else None,
    }
    rows |= {f"metadata {key}": value for key, value in (job.metadata or {}).items()}
    rows |= {f"result {key}": _value(value) for key, value in (job.result or {}).items()}
    for name, value in rows.items():
        if value is not None:
            table.add_row(one_line(name), one_line(value))
    return table


def metrics_table(records: Sequence[EpochRecord]) -> Table:
    """A row per epoch, a column per figure that any of them has."""
    figures = _figures(records)
    heads = [f"{split} {SHORT.get(name, name)}" for split, name in figures]
    table = table_of("epoch", "stage", "in stage", *map(one_line, heads), "lr", "img/s", "s", "MiB")
    for record in records:
        table.add_row(
            str(record.global_epoch),
            one_line(record.stage),
            str(record.epoch),
            *(_figure(record, split, name) for split, name in figures),
            rates(record.lr),
            number(record.images_per_second, ".0f"),
            number(total_seconds(record), ".1f"),
            ABSENT if record.peak_memory_bytes is None else f"{record.peak_memory_bytes / 2**20:.0f}",
        )
    return table


def _figures(records: Iterable[EpochRecord]) -> list[tuple[str, str]]:
    """Which figures there are, by split and name, in the order in which they were sent."""
    names: dict[str, dict[str, None]] = {split: {} for split in SPLITS}
    for record in records:
        for split, scores in scores_of(record).items():
            names[split] |= dict.fromkeys(scores.figures)
    return [(split, name) for split, found in names.items() for name in found]


def _figure(record: EpochRecord, split: str, name: str) -> str:
    scores = scores_of(record).get(split)
    value = scores.figures.get(name) if scores else None
    if scores and name == "loss" and value is None and record.nonfinite:
        return "not finite"
    return number(value)


def scores_of(record: EpochRecord) -> dict[str, Scores]:
    """An epoch's scores by split: training, validation, and validation of the moving average."""
    splits = {"train": record.train, "val": record.val, "ema": record.val_ema}
    return {split: scores for split, scores in splits.items() if scores is not None}


def events_table(events: Iterable[Event]) -> Table:
    """A row per event."""
    table = table_of("id", "time", "level", "type", "message")
    for event in events:
        table.add_row(*event_cells(event))
    return table


def event_cells(event: Event) -> tuple[str, ...]:
    """An event's ID, time, level, type and message."""
    return (
        str(event.id),
        moment(event.created_at, seconds=True),
        one_line(event.level),
        one_line(event.type),
        one_line(event.message),
    )


def epoch_line(record: EpochRecord) -> str:
    """One epoch in one line."""
    parts = [f"{one_line(record.stage)} epoch {record.epoch}:"]
    for split, scores in scores_of(record).items():
        figures = (f"{one_line(name)} {number(value)}" for name, value in scores.figures.items())
        parts.append(f"{split} {', '.join(figures)};")
    parts.append(f"lr {rates(record.lr)};")
    parts.append(f"{number(record.images_per_second, '.0f')} img/s, {number(total_seconds(record), '.1f')} s")
    return " ".join(parts)


def position(progress: Progress) -> str:
    """Where a job is, in words."""
    parts = [one_line(progress.stage or f"stage {progress.stage_index + 1}")]
    if progress.epoch is not None:
        parts.append(f"epoch {_of(progress.epoch, progress.epochs)}")
    if progress.step is not None:
        parts.append(f"step {_of(progress.step, progress.steps)}")
    return " ".join(parts)


def failure(job: Job) -> str:
    """Why a job failed: code and message."""
    if job.error is None:
        return one_line(job.status_reason or "no reason given")
    return one_line(f"{job.error.code}: {job.error.message}")


def best(job: Job) -> str:
    """The best value of the job's metric so far."""
    if job.best is None or job.best.value is None:
        return ABSENT
    return one_line(f"{job.best.metric or 'value'} {number(job.best.value)}")


def rate(value: float) -> str:
    """A learning rate with as many digits as tell it from its neighbours."""
    return f"{value:.6g}"


def rates(by_group: Mapping[str, float]) -> str:
    """Each group's learning rate, or from which to which they go where there are many."""
    if not by_group:
        return ABSENT
    if len(set(by_group.values())) == 1:
        return rate(next(iter(by_group.values())))
    if len(by_group) > MANY_GROUPS:
        low, high = min(by_group.values()), max(by_group.values())
        return f"{rate(low)} to {rate(high)} in {len(by_group)} groups"
    return ", ".join(f"{one_line(group)} {rate(value)}" for group, value in by_group.items())


def moment(seconds_since_1970: float | None, *, seconds: bool = False) -> str:
    """A time in the reader's time zone."""
    if seconds_since_1970 is None:
        return ABSENT
    local = datetime.fromtimestamp(seconds_since_1970).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def total_seconds(record: EpochRecord) -> float | None:
    """How long an epoch took. Waiting for data is part of training."""
    if record.seconds is None:
        return None
    known = (record.seconds.train, record.seconds.val, record.seconds.checkpoint)
    return sum(part for part in known if part is not None)


def _of(part: int, whole: int | None) -> str:
    return str(part) if whole is None else f"{part}/{whole}"


def number(value: float | None, form: str = ".4f") -> str:
    """A number in that form, or a dash for none."""
    return ABSENT if value is None else format(value, form)


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
