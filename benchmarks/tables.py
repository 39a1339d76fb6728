"""Markdown tables from the results: `python -m benchmarks.tables RESULTS.json docs/performance.md`.

Without a document, or with `-`, they are printed. In a document each table replaces what stands between the
comments `<!-- table NAME -->` and `<!-- end NAME -->`; one for which nothing was measured stays as it is.
"""

import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import rows
from benchmarks.ratios import ratios_of, standard_error, value
from benchmarks.records import Record
from benchmarks.results import Results, read
from benchmarks.targets import targets
from benchmarks.work import Work

MIB = 2**20
Cells = Sequence[str]


def markdown(head: Cells, body: Sequence[Cells]) -> str:
    """A table; an empty body gives an empty text."""
    if not body:
        return ""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def times(results: Results, names: Sequence[str]) -> str:
    """Seconds of every repeat and ratios against the tutorial loop's."""
    head = ["", "whole process, s", "×", "head stage, s", "×", "full stage, s", "×", "memory, MiB"]
    body = []
    for name in names:
        own = results.newest(name)
        if not own:
            continue
        title = rows.TITLES[name]
        if own[0].skipped is not None:
            body.append([title, own[0].skipped, *[""] * 6])
            continue
        work = results.session(own[0].session).work
        reference = results.of(rows.REFERENCE, own[0].session)
        cells = [title]
        for part in ("total", "head", "full"):
            cells += [_each(own, part, work), _ratio(own, reference, part, work)]
        body.append([*cells, _memory(own)])
    return markdown(head, body)


def looks(results: Results, names: Sequence[str]) -> str:
    """What else is to be known of rows: where the rest of the time went, and what moved while frozen."""
    parts = ("imports", "preparing", "picked up", "report", "succeeded")
    body = []
    for name in names:
        own = [record for record in results.newest(name) if record.skipped is None]
        if own:
            session, last = results.session(own[-1].session), own[-1]
            workers = str(session.workers.get(name, ""))
            left = last.trained.get("full", 0), session.work.images("full")
            images = "" if left[0] == left[1] else f"{left[0]} of {left[1]} images trained in the full stage"
            notes = "; ".join(note for note in (last.notes.get("while frozen"), images) if note)
            spent = [f"{min(r.seconds[p] for r in own):.2f}" if p in last.seconds else "" for p in parts]
            body.append([rows.TITLES[name], *spent, workers, notes])
    return markdown(["", *(f"{part}, s" for part in parts), "loader processes", "while frozen"], body)


def searches(results: Results) -> str:
    """The searches for the number of loader processes."""
    body: dict[str, list[str]] = {}
    counts = ("0", "1", "2", "4")
    for session in results.sessions:
        for name, found in session.searches.items():
            body[name] = [rows.TITLES[name], *(f"{found[c]:.1f}" if c in found else "" for c in counts)]
    return markdown(["one head epoch, s", *(f"{count} processes" for count in counts)], list(body.values()))


def limits(results: Results) -> str:
    """Images per second of what the hardware gives."""
    plain, keeping = results.newest("limits"), results.newest("limits-keeping")
    names = [name for record in plain[:1] for name in (*record.rates, *record.notes)]
    body = []
    for name in names:
        note = plain[0].notes.get(name, "")
        body.append([name, _rates(plain, name) or note, _rates(keeping, name)])
    seconds = [f"{r.seconds['head stage from features']:.2f} s" for r in plain if r.skipped is None]
    if seconds:
        body.append(["head stage from features once (whole)", " · ".join(seconds), ""])
    return markdown(["", "images/s", "with an allocator that keeps memory"], body)


def eights(results: Results) -> str:
    """Eight jobs against eight tutorial runs, which are one run's time multiplied."""
    body = []
    for name, against in (("eight-heads", "tutorial-head"), ("eight-whole", rows.REFERENCE)):
        own = [record for record in results.newest(name) if record.skipped is None]
        if not own:
            continue
        session = own[0].session
        once = [record.seconds["total"] for record in results.of(against, session)]
        eight = [record.seconds["total"] for record in own]
        ratio = f"{8 * statistics.median(once) / statistics.median(eight):.1f}" if once else ""
        firsts = f"{own[-1].seconds['first job']:.1f}, then {own[-1].seconds['each further job']:.1f} each"
        body.append([rows.TITLES[name], _numbers(eight), firsts, _numbers(once), ratio])
    return markdown(["", "all eight, s", "a job, s", "one tutorial run, s", "8 × that, by it"], body)


def accuracy(results: Results) -> str:
    """Best and last epochs over the seeds, and the differences to the plain loop's."""
    body = []
    for row in rows.accuracy_rows():
        own = [record for record in results.newest(row.name) if record.skipped is None]
        if not own:
            body += [
                [row.title, record.skipped or "", "", "", "", ""] for record in results.newest(row.name)[:1]
            ]
            continue
        plain = results.of(f"accuracy-{rows.REFERENCE}", own[0].session)
        best, last = [max(r.accuracy) for r in own], [r.accuracy[-1] for r in own]
        seconds = statistics.median(record.seconds["total"] for record in own)
        before = _plus(best, [max(r.accuracy) for r in plain])
        body.append(
            [
                row.title,
                _mean(best),
                " · ".join(f"{b:.3f}" for b in best),
                before,
                _mean(last),
                f"{seconds:.0f}",
            ]
        )
    head = [
        "",
        "best epoch, mean ± standard error",
        "seeds",
        "minus the plain loop's",
        "last epoch",
        "a run, s",
    ]
    return markdown(head, body)


def gpus(results: Results) -> str:
    """The full stage from JPEG files against ready tensors, from the second epoch on."""
    body = []
    for network, batch in rows.ON_GPU:
        ready, files = (results.newest(f"gpu-{kind}-{network}-{batch}") for kind in ("ready", "files"))
        if ready and files and not (ready[0].skipped or files[0].skipped):
            limit = statistics.median(record.rates[rows.GPU_STEP] for record in ready)
            later = [rate for r in files for name, rate in r.rates.items() if name != "full 1"]
            ratio = f"{statistics.median(later) / limit:.2f}"
            body.append([network, str(batch), _rates(ready, rows.GPU_STEP), f"{max(later):,.0f}", ratio])
    head = [
        "",
        "batch",
        "ready tensors, images/s",
        "from files, best epoch, images/s",
        "median, of the limit",
    ]
    return markdown(head, body)


def machines(results: Results) -> str:
    """The machine and the versions of the newest session."""
    session = results.sessions[-1]
    judged = results.newest(f"accuracy-{rows.REFERENCE}")
    judging = results.session(judged[0].session) if judged else session
    facts = {**session.machine, "work": _work(session.work), "accuracy's work": _work(judging.accuracy_work)}
    return markdown(["", ""], [[name, value] for name, value in facts.items()])


LOOPS = [name for row in rows.LOOPS for name in (row.name, *row.gives)]
PEERS = [*(name for row in rows.LOOPS if row.name in rows.BESIDE_PEERS for name in (row.name, *row.gives))]
PEERS += [row.name for row in rows.PEERS]
TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machines,
    "targets": lambda results: markdown(["", "at least", "measured"], targets(results)),
    "loops": lambda results: times(results, LOOPS),
    "loops-notes": lambda results: looks(results, LOOPS),
    "peers": lambda results: times(results, PEERS),
    "peers-notes": lambda results: looks(results, PEERS),
    "eight": eights,
    "limits": limits,
    "accuracy": accuracy,
    "searches": searches,
    "gpu": gpus,
}


def everything(results: Results) -> str:
    """All tables that have something in them."""
    made = ((name, make(results)) for name, make in TABLES.items())
    return "\n\n".join(f"**{name}**\n\n{table}" for name, table in made if table) + "\n"


def fill(document: str, results: Results) -> tuple[str, list[str]]:
    """The document with its tables made anew, and the names of those that nothing was measured for."""
    empty: list[str] = []

    def table(found: re.Match[str]) -> str:
        made = TABLES[found[1]](results)
        if not made:
            empty.append(found[1])
            return found[0]
        return f"<!-- table {found[1]} -->\n{made}\n<!-- end {found[1]} -->"

    return re.sub(r"<!-- table ([\w-]+) -->\n.*?<!-- end \1 -->", table, document, flags=re.DOTALL), empty


def _numbers(values: Sequence[float]) -> str:
    return " · ".join(f"{one:.1f}" if one >= 10 else f"{one:.2f}" for one in values)


def _each(records: Sequence[Record], part: str, work: Work) -> str:
    return _numbers([seconds for r in records if (seconds := value(r, part, work)) is not None])


def _ratio(own: Sequence[Record], reference: Sequence[Record], part: str, work: Work) -> str:
    ratios = list(ratios_of(own, reference, part, work))
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def _memory(records: Sequence[Record]) -> str:
    peak = [record.memory for record in records if record.memory]
    if not peak:
        return ""
    largest, tree = (max(memory[which] for memory in peak) // MIB for which in ("largest", "tree"))
    return f"{largest:,}" if largest == tree else f"{largest:,} ({tree:,} with all processes)"


def _rates(records: Sequence[Record], name: str) -> str:
    return " · ".join(f"{record.rates[name]:,.0f}" for record in records if name in record.rates)


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {standard_error(values):.4f}"


def _plus(values: Sequence[float], plain: Sequence[float]) -> str:
    return f"{statistics.mean(values) - statistics.mean(plain):+.4f}" if plain else ""


def _work(work: Work) -> str:
    start = "real weights" if work.weights else "random weights"
    images = f"{work.trained} images to train on and {work.validated} to validate"
    epochs = f"{work.head_epochs} head epochs and {work.full_epochs} full ones"
    size = f"{work.image_size} pixels, batch {work.batch_size}"
    return f"{work.network} from {start}, {size}, {images}, {epochs}"


def main(given: list[str]) -> int:
    """Returns 1 where the document has a table for which nothing was measured."""
    results = read(Path(given[0]))
    if len(given) < 2 or given[1] == "-":
        print(everything(results))
        return 0
    document = Path(given[1])
    text, empty = fill(document.read_text(), results)
    document.write_text(text)
    for name in empty:
        print(f"nothing was measured for the table {name}")
    return int(bool(empty))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
