"""The page that `thaw report` writes: one HTML file that needs no other, without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from client.charts import Chart, Series, Span, draw
from client.models import EpochRecord, Job
from client.report_tables import figure, figures_of
from client.reports import Matrix, Report, largest_confusions
from client.tables import moment, number, scores_of
from finetune.spec.text import seen

MOST_CLASSES = 30  # of a confusion matrix on the page
MOST_CONFUSIONS = 20
MOST_RATES = 4
NAMES = {"train": "training", "val": "validation", "ema": "moving average"}
DRAWN = ("accuracy", "map", "f1", "recall@1", "recall@5", "map@r")
"""The figures that are shares, beside the loss."""

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=seen,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters["number"] = number
templates.filters["figure"] = figure
templates.filters["moment"] = moment


@dataclass(frozen=True)
class HeatMap:
    """A confusion matrix, or the part of it with the most mistakes; `shares` are of each row's images."""

    classes: list[str]
    counts: Matrix
    shares: list[list[float]]
    of: int


def render(report: Report, job: Job, records: Sequence[EpochRecord]) -> str:
    """The page as text."""
    return templates.get_template("report.html").render(
        report=report,
        job=job,
        figures=figures_of(report),
        charts=[chart for chart in charts_of(report, records) if chart is not None],
        heat=heat_map(report),
        confusions=largest_confusions(report, MOST_CONFUSIONS),
        epochs=len(records),
    )


def charts_of(report: Report, records: Sequence[EpochRecord]) -> list[Chart | None]:
    """Loss, the figures that are shares, and learning rates over the epochs."""
    if not records:
        return []
    spans, best = spans_of(records), report.checkpoint.global_epoch
    figures = [line for name in DRAWN for line in _scores(records, name, always_named=True)]
    return [
        draw("Loss", _scores(records, "loss"), spans, best),
        draw("Figures", figures, spans, best),
        draw("Learning rate", _rates(records), spans, best, log=True),
    ]


def spans_of(records: Sequence[EpochRecord]) -> list[Span]:
    """The stages, each with its epochs."""
    spans: list[Span] = []
    stage: int | None = None
    for record in records:
        if record.stage_index != stage:
            spans.append(Span(record.stage, record.global_epoch, record.global_epoch))
        spans[-1] = Span(record.stage, spans[-1].first, record.global_epoch)
        stage = record.stage_index
    return spans


def heat_map(report: Report) -> HeatMap | None:
    """The confusion matrix; of many classes those that are most often part of a mistake."""
    matrix = report.matrix
    if matrix is None:
        return None
    places = list(range(len(matrix)))
    if len(places) > MOST_CLASSES:
        wrong = [sum(matrix[i]) + sum(row[i] for row in matrix) - 2 * matrix[i][i] for i in places]
        places = sorted(sorted(places, key=lambda i: -wrong[i])[:MOST_CLASSES])
    return HeatMap(
        classes=[report.classes[i] for i in places],
        counts=[[matrix[i][j] for j in places] for i in places],
        shares=[[matrix[i][j] / max(sum(matrix[i]), 1) for j in places] for i in places],
        of=len(matrix),
    )


def _scores(records: Sequence[EpochRecord], figure: str, *, always_named: bool = False) -> list[Series]:
    """A figure of each split that has it."""
    found: dict[str, dict[int, float | None]] = {}
    for record in records:
        for split, scores in scores_of(record).items():
            if figure in scores.figures:
                found.setdefault(split, {})[record.global_epoch] = scores.figures[figure]
    suffix = f" {figure}" if always_named else ""
    return [Series(f"{NAMES[split]}{suffix}", values) for split, values in found.items()]


def _rates(records: Sequence[EpochRecord]) -> list[Series]:
    """Each group's rate; of many groups the lowest and the highest in each epoch."""
    groups = list(dict.fromkeys(group for record in records for group in record.lr))
    if len(groups) > MOST_RATES:
        known = [record for record in records if record.lr]
        return [
            Series("highest of all groups", {r.global_epoch: max(r.lr.values()) for r in known}),
            Series("lowest of all groups", {r.global_epoch: min(r.lr.values()) for r in known}),
        ]
    return [
        Series(group, {r.global_epoch: r.lr[group] for r in records if group in r.lr}) for group in groups
    ]
