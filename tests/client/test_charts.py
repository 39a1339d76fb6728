import itertools

import pytest

from client.charts import HEIGHT, WIDTH, Chart, Series, Span, draw, nice_ticks

SPANS = [Span("head", 1, 3), Span("all", 4, 6)]


def drawn(*values, **options) -> Chart:
    series = [Series(f"line {n}", dict(enumerate(each, start=1))) for n, each in enumerate(values)]
    chart = draw("Loss", series, SPANS, **options)
    assert chart is not None
    return chart


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.62, 0.98, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.11, 7.9, [0.0, 2.0, 4.0, 6.0, 8.0]),
        (-3.0, 5.0, [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0]),
        (1e-7, 4e-7, [1e-7, 2e-7, 3e-7, 4e-7]),
    ],
)
def test_ticks_are_round_numbers_that_reach_around_the_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-9, 1e9])
def test_one_value_alone_lies_between_two_ticks(value):
    ticks = nice_ticks(value, value)
    assert ticks[0] < value < ticks[-1] or ticks[0] <= value <= ticks[-1]
    assert len(ticks) > 1


def test_every_dot_lies_within_the_frame_and_larger_values_higher():
    chart = drawn([3.0, 2.0, 1.5, 1.4, 1.3, 0.9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], best=6)
    for line in chart.lines:
        (piece,) = line.pieces
        assert all(chart.left <= dot.x <= chart.right and chart.top <= dot.y <= chart.bottom for dot in piece)
        assert [dot.x for dot in piece] == sorted(dot.x for dot in piece)
    falling, rising = ([dot.y for dot in line.pieces[0]] for line in chart.lines)
    assert falling == sorted(falling)
    assert rising == sorted(rising, reverse=True)
    assert chart.best == chart.lines[0].pieces[0][-1].x
    assert chart.lines[0].pieces[0][0].title == "line 0, epoch 1: 3"
    assert (chart.width, chart.height) == (WIDTH, HEIGHT)


def test_stages_are_bands_beside_each_other():
    first, second = drawn([1.0] * 6).bands
    assert (first.name, second.name) == ("head", "all")
    assert first.x + first.width == pytest.approx(second.x, abs=0.02)
    assert first.width == pytest.approx(second.width, abs=0.02)


def test_a_missing_value_breaks_the_line():
    chart = drawn([1.0, 2.0, None, 2.5, 1.0, 0.5])
    assert [len(piece) for piece in chart.lines[0].pieces] == [2, 3]
    group = Series("head", {1: 0.1, 2: 0.1, 5: 0.2})
    found = draw("Learning rate", [group], SPANS)
    assert found is not None
    assert [len(piece) for piece in found.lines[0].pieces] == [2, 1]


def test_values_that_differ_much_are_drawn_by_their_powers_where_that_is_asked_for():
    rates = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0]
    chart = drawn(rates, log=True)
    (piece,) = chart.lines[0].pieces
    steps = [b.y - a.y for a, b in itertools.pairwise(piece)]
    assert len(piece) == 5  # there is no place for 0
    assert steps == pytest.approx([steps[0]] * 4, abs=0.05)
    assert [tick.label for tick in chart.y_ticks] == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert next(tick.label for tick in drawn([0.1, 0.2] * 3, log=True).y_ticks) == "0.1"


@pytest.mark.parametrize("epochs", [1, 2, 7, 30, 400])
def test_ticks_of_epochs_are_whole_and_few(epochs):
    chart = draw("Loss", [Series("a", dict.fromkeys(range(1, epochs + 1), 1.0))], [Span("all", 1, epochs)])
    assert chart is not None
    labels = [int(tick.label) for tick in chart.x_ticks]
    assert 1 <= len(labels) <= 10
    assert all(1 <= label <= epochs for label in labels)


def test_nothing_to_draw_is_no_chart():
    assert draw("Loss", [], SPANS) is None
    assert draw("Loss", [Series("a", {1: None})], SPANS) is None
