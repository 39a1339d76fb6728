"""The geometry of charts: from numbers to places on a drawing, which the page's template draws as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 400.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 20.0, 24.0
TICKS = 5
WIDE = 20.0
"""A scale is logarithmic from this ratio of its largest to its smallest value on, where that is asked for."""


@dataclass(frozen=True)
class Series:
    """A named line: values by epoch, None where there is none."""

    name: str
    values: dict[int, float | None]


@dataclass(frozen=True)
class Span:
    """A stage: its first and its last epoch."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Tick:
    """A place on an axis with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """A value's place, and what it is in words."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Line:
    """A series on the drawing. Where values are missing it is broken into pieces."""

    name: str
    pieces: list[list[Dot]]


@dataclass(frozen=True)
class Band:
    """A stage on the drawing."""

    name: str
    x: float
    width: float


@dataclass(frozen=True)
class Chart:
    """A drawing of lines over epochs; `best` is where the best epoch is."""

    title: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bands: list[Band] = field(default_factory=list)
    best: float | None = None
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Scale:
    """From values to places: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)


def draw(
    title: str, series: Sequence[Series], spans: Sequence[Span], best: int | None = None, *, log: bool = False
) -> Chart | None:
    """A chart of series over epochs; None where there is no value to draw.

    With `log` the scale is logarithmic where values differ much; those that are 0 are then left out.
    """
    values = [v for one in series for v in one.values.values() if v is not None]
    positive = [v for v in values if v > 0]
    if not values:
        return None
    log = log and bool(positive) and max(positive) / min(positive) >= WIDE
    y_ticks = _powers(min(positive), max(positive)) if log else nice_ticks(min(values), max(values))
    y = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, log)
    epochs = [epoch for span in spans for epoch in (span.first, span.last)]
    x = Scale(min(epochs) - 0.5, max(epochs) + 0.5, LEFT, WIDTH - RIGHT)
    return Chart(
        title=title,
        lines=[Line(one.name, _pieces(one, x, y)) for one in series],
        x_ticks=[Tick(x(epoch), str(epoch)) for epoch in _whole_ticks(min(epochs), max(epochs))],
        y_ticks=[Tick(y(value), f"{value:.4g}") for value in y_ticks],
        bands=[Band(s.name, x(s.first - 0.5), round(x(s.last + 0.5) - x(s.first - 0.5), 2)) for s in spans],
        best=None if best is None else x(best),
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """About five round numbers, evenly spaced, that reach from `low` or below to `high` or above."""
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - abs(low) * 0.1 - 1e-9, high + abs(high) * 0.1 + 1e-9
    rough = (high - low) / (TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(s * unit for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * unit >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _whole_ticks(first: int, last: int) -> list[int]:
    step = max(1, *(int(tick) for tick in nice_ticks(0, max(last - first, 1))[1:2]))
    return [epoch for epoch in range(first, last + 1) if epoch % step == 0 or (epoch == first and step == 1)]


def _pieces(series: Series, x: Scale, y: Scale) -> list[list[Dot]]:
    pieces: list[list[Dot]] = [[]]
    before: int | None = None
    for epoch, value in sorted(series.values.items()):
        if value is None or (y.log and value <= 0):
            continue
        if before is not None and epoch != before + 1:
            pieces.append([])
        pieces[-1].append(Dot(x(epoch), y(value), f"{series.name}, epoch {epoch}: {value:.5g}"))
        before = epoch
    return [piece for piece in pieces if piece]
