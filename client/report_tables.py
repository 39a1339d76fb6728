"""What `thaw report` prints: tables and lines."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from client.reports import Mistake, OldClasses, Report, largest_confusions
from client.tables import ABSENT, number, show, table_of
from client.text import one_line

SMALL = 0.001
CLASSES, CONFUSIONS, MISTAKES = 20, 10, 10
"""How many rows are printed; the page and the predictions have more."""

MISTAKE_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[[Mistake], tuple[str | None, ...]]]] = {
    "one_label": (
        ("file", "class", "taken for", "probability", "of the class"),
        lambda m: (m.file, m.label, m.prediction, number(m.probability), number(m.probability_of_label)),
    ),
    "several_labels": (
        ("file", "label", "was", "probability"),
        lambda m: (m.file, m.label, m.mistake, number(m.probability)),
    ),
    "embedding": (
        ("file", "class", "nearest is", "at", "file of the nearest"),
        lambda m: (m.file, m.label, m.prediction, number(m.distance), m.neighbour),
    ),
}
"""The heads and the cells of a mistake by the report's kind."""


def print_report(console: Console, report: Report) -> None:
    """The figures, the classes with the worst first, what is confused, and the most confident mistakes."""
    for line in head_lines(report):
        console.print(line, soft_wrap=True)
    sections = [
        ("Figures", figures_table(report)),
        (_limited("Classes", len(report.per_class), CLASSES), classes_table(report)),
        ("Largest confusions", confusions_table(report)),
        ("Calibration", calibration_table(report)),
        (_limited("Mistakes", report.mistake_count, MISTAKES), mistakes_table(report)),
        ("Old classes", old_classes_table(report.old_classes) if report.old_classes else None),
    ]
    for title, table in sections:
        if table is not None and table.row_count:
            console.print()
            console.print(title, style="bold")
            show(console, table)


def head_lines(report: Report) -> list[str]:
    """What the report is about, and whether the score came again."""
    at, again = report.checkpoint, report.reproduced
    lines = [
        f"best checkpoint: epoch {at.global_epoch or ABSENT}, stage {at.stage}; "
        f"{report.images} validation images of {report.dataset.name}",
        f"{again.metric} {number(again.stored)} was stored; loaded anew it gave {number(again.again)}"
        + (f" in {again.precision}, and {number(again.in_fp32)} in fp32" if again.narrow else ""),
    ]
    if report.nonfinite:
        lines.append(f"for {report.nonfinite} images the network gives no finite numbers")
    return [one_line(line) for line in lines]


def figures_table(report: Report) -> Table:
    """A row per figure."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in figures_of(report).items():
        table.add_row(one_line(name), figure(value))
    return table


def figure(value: float | None) -> str:
    """A figure with four digits behind the point; a small one with those that it begins with."""
    return number(value, ".3g" if value and abs(value) < SMALL else ".4f")


def figures_of(report: Report) -> dict[str, float | None]:
    """The figures by names for people, without those that do not apply."""
    found = {name.replace("_", " "): value for name, value in report.figures.items()}
    if report.calibration is not None:
        found["calibration error"] = report.calibration.error
    if found.get("top 5 accuracy", 0.0) is None:
        del found["top 5 accuracy"]
    return found


def classes_table(report: Report) -> Table:
    """A row per class, the lowest F1 first."""
    several = report.kind == "several_labels"
    table = table_of(
        "class", "precision", "recall", "f1", "images", *(("ap", "threshold") if several else ())
    )
    for row in report.worst_first[:CLASSES]:
        more = (number(row.average_precision), number(row.threshold)) if several else ()
        table.add_row(
            one_line(row.name),
            number(row.precision),
            number(row.recall),
            number(row.f1),
            str(row.support),
            *more,
        )
    return table


def confusions_table(report: Report) -> Table:
    """A row per pair of classes."""
    table = table_of("class", "taken for", "images", "of the class")
    for pair in largest_confusions(report, CONFUSIONS):
        table.add_row(
            one_line(pair.label), one_line(pair.prediction), str(pair.count), number(pair.share, ".1%")
        )
    return table


def calibration_table(report: Report) -> Table:
    """A row per bin that has answers."""
    several = report.kind == "several_labels"
    table = table_of(
        "probability", "labels" if several else "images", "share", "mean", "of it" if several else "right"
    )
    for row in report.calibration.bins if report.calibration else ():
        if row.count:
            table.add_row(
                f"{row.low:.1f} to {row.high:.1f}",
                str(row.count),
                number(row.share, ".1%"),
                number(row.mean_confidence),
                number(row.accuracy),
            )
    return table


def mistakes_table(report: Report) -> Table:
    """A row per mistake, the most confident first."""
    heads, cells = MISTAKE_COLUMNS.get(report.kind, MISTAKE_COLUMNS["one_label"])
    table = table_of(*heads)
    for row in report.mistakes[:MISTAKES]:
        table.add_row(*(one_line(cell or ABSENT) for cell in cells(row)))
    return table


def old_classes_table(old: OldClasses) -> Table:
    """A row for all old classes together and one for each, the largest regression first."""
    table = table_of("class", "images", "before", "among old", "now", "change")
    change = None if old.after is None or old.before is None else old.after - old.before
    rows = [("all", old.images, old.before, old.after_among_old, old.after, change)]
    rows += [
        (row.name, row.support, row.before, row.after_among_old, row.after, row.change)
        for row in old.per_class[:CLASSES]
    ]
    for name, images, before, among_old, after, by in rows:
        values = (number(before), number(among_old), number(after), number(by, "+.4f"))
        table.add_row(one_line(name), str(images), *values)
    return table


def _limited(title: str, there: int, shown: int) -> str:
    return f"{title}: {shown} of {there}" if there > shown else title
