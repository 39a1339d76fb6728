"""What a range test has found: a learning rate to begin with, and the curve that it was read from."""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field
from rich.console import Console
from rich.table import Table

from client.models import Answer
from client.tables import number, rate, show, table_of
from client.text import one_line

ROWS, WIDTH = 25, 40
"""How much of the curve is shown: so many of its steps, and so many characters for the largest loss."""


class CurvePoint(Answer):
    """One step: the rate that it was made with, and the loss; one that is not finite is None."""

    step: int
    lr: float
    loss: float | None = None
    smoothed: float | None = None


class RangeTest(Answer):
    """The result of a job with `range_test`."""

    stage: str = ""
    curve: list[CurvePoint] = Field(default_factory=list)
    suggestion: float | None = None
    reason: str = ""
    diverged_at: float | None = None


class RangeTestResult(Answer):
    """The part of a job's result that a range test leaves."""

    range_test: RangeTest


def print_range_test(console: Console, found: RangeTest) -> None:
    """The curve, and what it suggests."""
    show(console, curve_table(found))
    suggestion = "no rate is suggested" if found.suggestion is None else f"try {rate(found.suggestion)}"
    diverged = "" if found.diverged_at is None else f"; the loss diverged at {rate(found.diverged_at)}"
    console.print()
    console.print(one_line(f"stage {found.stage}: {suggestion}{diverged}"), soft_wrap=True)
    if found.reason:
        console.print(one_line(found.reason), soft_wrap=True)


def curve_table(found: RangeTest) -> Table:
    """The curve with a bar for each loss: at most `ROWS` of its steps, the suggested one among them."""
    points = _thinned(found.curve)
    losses = [point.smoothed for point in points if point.smoothed is not None]
    low, high = min(losses, default=0.0), max(losses, default=0.0)
    nearest = _nearest(points, found.suggestion)
    table = table_of("lr", "loss", "smoothed", "")
    for point in points:
        share = 0.0 if point.smoothed is None or high == low else (point.smoothed - low) / (high - low)
        bar = "" if point.smoothed is None else "#" * (1 + round(share * (WIDTH - 1)))
        mark = " <- suggested" if point is nearest else ""
        table.add_row(rate(point.lr), number(point.loss), number(point.smoothed), bar + mark)
    return table


def _thinned(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """As many points as fit, evenly, the first and the last among them."""
    if len(curve) <= ROWS:
        return list(curve)
    return [curve[round(row * (len(curve) - 1) / (ROWS - 1))] for row in range(ROWS)]


def _nearest(points: Sequence[CurvePoint], suggestion: float | None) -> CurvePoint | None:
    """The last point that is not above the suggestion, as rates grow along the curve."""
    if suggestion is None or not points:
        return None
    for point, following in pairwise(points):
        if point.lr <= suggestion < following.lr:
            return point
    return points[-1] if suggestion >= points[-1].lr else points[0]
