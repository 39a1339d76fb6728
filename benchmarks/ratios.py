"""How many times as fast a row is as another one, in the same session and round, on equal work."""

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.records import Record
from benchmarks.results import Results
from benchmarks.work import Work

CHECKED_HEAD = "head with what is before it"


def value(record: Record, part: str, work: Work) -> float | None:
    """Seconds of `head`, `full`, `total`, or `CHECKED_HEAD`, on equal work."""
    if part == CHECKED_HEAD:
        head = record.equal_work("head", work)
        return None if head is None else head + record.seconds.get("preparing", 0.0)
    return record.equal_total(work) if part == "total" else record.equal_work(part, work)


def ratios_of(own: Sequence[Record], reference: Sequence[Record], part: str, work: Work) -> Iterator[float]:
    """How many times as fast it was in each round that has both."""
    others = {record.round: record for record in reference}
    for record in own:
        other = others.get(record.round)
        mine, theirs = value(record, part, work), value(other, part, work) if other else None
        if mine and theirs:
            yield theirs / mine


def ratio(results: Results, row: str, against: str, part: str) -> float | None:
    """The median over the rounds of the newest session that has both rows; None where none has."""
    for session in reversed(results.sessions):
        own, others = results.of(row, session.id), results.of(against, session.id)
        found = list(ratios_of(own, others, part, session.work))
        if found:
            return statistics.median(found)
    return None


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 for a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
