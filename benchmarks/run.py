"""Compares loops that do the same work: `python -m benchmarks.run`, or `make bench` and `make bench-peers`.

Each row of a table is a process of its own, one after the other; every repeat runs all rows once, so that a
noisy minute is not one row's alone. Everything measured goes into `results.json` in the results folder, after
each process; the tables go to the screen and into `tables.md` beside it. Parts can be run one by one: what
was measured before stays, and a ratio is only ever taken within one session.
"""

import argparse
import sys
import time
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import machine, rows, tables
from benchmarks.images import lay_out
from benchmarks.launching import ROOT, Launcher
from benchmarks.records import Record
from benchmarks.results import Results, Session, read
from benchmarks.rows import Row
from benchmarks.work import Work

SHARED = ROOT.parent / "shared"
WORKERS = (0, 1, 2, 4)
MOBILENET = "examples.mobilenet_v1:backbone"


def arguments_of(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows or parts; globs are allowed")
    parser.add_argument("--peers", action="store_true", help="the peers, and beside them tutorial and Thaw")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="of the rows that compare accuracy")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "hymenoptera")
    parser.add_argument("--most", type=int, help="images of a class and split; all unless said")
    parser.add_argument("--copies", type=int, default=1, help="of each training image, to have more of them")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights" / "mobilenet_v1.safetensors")
    parser.add_argument("--network", default="resnet18", help="torchvision's name, or package.module:factory")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, nargs=2, default=(3, 2), metavar=("HEAD", "FULL"))
    parser.add_argument("--accuracy-epochs", type=int, nargs=2, default=(20, 6), metavar=("HEAD", "FULL"))
    parser.add_argument(
        "--workers", type=int, help="loader processes of tutorial and peers; searched unless said"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--list", action="store_true", help="prints the rows and ends")
    return parser.parse_args(given)


def chosen(names: list[str] | None, peers: bool) -> list[Row]:
    """The rows that are asked for, with those that they are compared with."""
    if names:
        picked = [
            row for row in rows.ROWS if any(fnmatchcase(x, n) for n in names for x in (row.name, row.part))
        ]
    elif peers:
        picked = [row for row in rows.ROWS if row.part == rows.PEER or row.name in rows.BESIDE_PEERS]
    else:
        picked = [row for row in rows.ROWS if row.part not in (rows.PEER, rows.GPU)]
    compared = any(row.part in (rows.LOOP, rows.PEER, rows.EIGHT) for row in picked)
    reference = [row for row in rows.ROWS if row.name == rows.REFERENCE and row not in picked and compared]
    return [*reference, *picked]


class Bench:
    """One session of the runner."""

    def __init__(self, arguments: argparse.Namespace, picked: list[Row], work: Work, own: Work) -> None:
        self._arguments, self._picked = arguments, picked
        self.results: Results = read(arguments.results / "results.json")
        self._launcher = Launcher(arguments.results / "work", arguments.peers_python)
        self.failed = False
        begun = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        self._session = Session(begun, machine.facts(), work, own, sys.argv[1:])
        self.results.sessions.append(self._session)

    def search(self) -> None:
        """Finds the number of loader processes that is best for each row that has a choice."""
        short = replace(self._session.work, head_epochs=1, full_epochs=0)
        for row in self._picked:
            if not row.searched:
                continue
            if self._arguments.workers is not None:
                self._session.workers[row.name] = self._arguments.workers
                continue
            seconds = {}
            for count in WORKERS:
                record = self._run(row, short, {"workers": count})[0]
                if record.skipped is None:
                    seconds[count] = record.seconds["total"]
                    _say(f"{row.name} with {count} loader processes", record)
            if seconds:
                self._session.workers[row.name] = min(seconds, key=seconds.__getitem__)
                self._session.searches[row.name] = {str(count): took for count, took in seconds.items()}

    def measure(self) -> None:
        """Runs the rows, in turn within each repeat, and those of accuracy in turn within each seed."""
        accuracy = [row for row in self._picked if row.part == rows.ACCURACY]
        for round_ in range(self._arguments.repeats):
            for row in self._picked:
                if row not in accuracy:
                    self._record(row, replace(self._session.work, **row.work), round_, 0)
        if accuracy and self._session.accuracy_work.weights is None:
            for row in accuracy:
                self._add(Record(row.name, skipped="there is no file with the weights (--weights)"))
            return
        for seed in range(self._arguments.seeds if accuracy else 0):
            for row in accuracy:
                self._record(row, replace(self._session.accuracy_work, seed=seed), seed, seed)

    def _record(self, row: Row, work: Work, round_: int, seed: int) -> None:
        workers = self._session.workers.get(row.name)
        for record in self._run(row, work, {} if workers is None else {"workers": workers}):
            self._add(replace(record, round=round_, seed=seed))

    def _run(self, row: Row, work: Work, options: dict[str, int]) -> list[Record]:
        return self._launcher.run(row, work, options)

    def _add(self, record: Record) -> None:
        self.failed |= (record.skipped or "").startswith("failed")
        record.session = self._session.id
        self.results.add(record)
        _say(record.row, record)


def _say(name: str, record: Record) -> None:
    parts = " ".join(f"{part} {seconds:.2f}" for part, seconds in record.seconds.items())
    rates = " ".join(f"{part} {rate:.0f}/s" for part, rate in record.rates.items())
    print(f"{time.strftime('%H:%M:%S')} {name}: {record.skipped or parts} {rates}".rstrip(), flush=True)


def works(arguments: argparse.Namespace) -> tuple[Work, Work]:
    """The work of the loops, and that of the rows that compare accuracy. Lays the images out."""
    folder = arguments.results.absolute() / "data" / "photos"
    source = arguments.data if arguments.data.is_dir() else None
    if source is None:
        print(f"there is no folder {arguments.data}: photograph-like images are drawn instead")
    counts = lay_out(source, folder, arguments.most, arguments.copies)
    work = Work(
        data=str(folder),
        trained=counts["train"],
        validated=counts["val"],
        network=arguments.network,
        image_size=arguments.image_size,
        batch_size=arguments.batch_size,
        head_epochs=arguments.epochs[0],
        full_epochs=arguments.epochs[1],
    )
    judged = replace(
        work,
        network=MOBILENET,
        weights=str(arguments.weights.absolute()) if arguments.weights.is_file() else None,
        head_epochs=arguments.accuracy_epochs[0],
        full_epochs=arguments.accuracy_epochs[1],
        full_rate=3e-4,
        full_rate_falls=True,
        crop_scale=(0.35, 1.0),
    )
    return work, judged


def main(given: list[str]) -> int:
    """Runs what is asked for. Returns 1 where a row failed, 2 where there is no such row."""
    arguments = arguments_of(given)
    picked = chosen(arguments.only, arguments.peers)
    if not picked or arguments.list:
        for row in rows.ROWS:
            print(f"{row.part:10} {row.name:28} {row.title}")
        return 0 if arguments.list else 2
    if machine.is_busy():
        print("others are at work on this machine: the figures will be rough")
    bench = Bench(arguments, picked, *works(arguments))
    bench.search()
    bench.measure()
    text = tables.everything(bench.results)
    (arguments.results / "tables.md").write_text(text)
    print(text)
    return int(bench.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
