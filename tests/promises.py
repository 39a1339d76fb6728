"""What Thaw promises, and how often each was tried: the tests with `@pytest.mark.promise("…")`.

`pytest --promises FILE` writes the table of them into a document, with the date and the machine.
"""

import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.databases import find_program

Tried = Callable[[int], None]

BEGIN, END = "<!-- table promises -->", "<!-- end promises -->"
DONE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)  # what was broken off proves nothing


@dataclass
class Promise:
    """One line of the summary."""

    sentence: str
    tries: int = 0
    failures: int = 0


PROMISES = pytest.StashKey[dict[str, Promise]]()
TRIES = pytest.StashKey[int]()


def add_option(parser: pytest.Parser) -> None:
    """`--promises FILE`."""
    parser.addoption("--promises", type=Path, help="write the table of promises into this document")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known, and looks at the document before hours are spent for it."""
    config.addinivalue_line("markers", "promise(sentence): what Thaw promises here, for docs/reliability.md")
    config.stash[PROMISES] = {}
    document: Path | None = config.getoption("--promises")
    if document is not None:
        try:
            insert(document.read_text(), "")
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--promises: {error}") from error


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Tried:
    """Adds tries of this test to its promise's; a test that never says any tries once."""

    def add(times: int) -> None:
        request.node.stash[TRIES] = request.node.stash.get(TRIES, 0) + times

    return add


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Counts each test of a promise when it has run."""
    report = yield
    mark = item.get_closest_marker("promise")
    if mark and not report.skipped and (report.when == "call" or report.failed):
        promise = item.config.stash[PROMISES].setdefault(mark.args[0], Promise(mark.args[0]))
        promise.tries += item.stash.get(TRIES, 1)
        promise.failures += report.failed
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes the table, where a document is named and no test was left out on the way."""
    document: Path | None = session.config.getoption("--promises")
    whole = exitstatus in DONE and not (session.shouldfail or session.shouldstop)
    promises = session.config.stash[PROMISES].values()
    if document is not None and promises and whole:
        profile = "long" if session.config.getoption("--long") else "short"
        where = f"{machine()}, in the {profile} profile"
        document.write_text(insert(document.read_text(), table(promises, date.today(), where)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how many promises were tried how often, and which were broken."""
    promises = config.stash[PROMISES].values()
    if not promises:
        return
    tries, failures = (sum(getattr(p, name) for p in promises) for name in ("tries", "failures"))
    terminalreporter.write_line(f"{len(promises)} promises, {tries:,} tries, {failures:,} failures")
    for broken in (p for p in promises if p.failures):
        terminalreporter.write_line(f"broken: {broken.sentence}")


def table(promises: Collection[Promise], day: date, where: str) -> str:
    """The promises as a table below a line that says when and where they were tried."""
    rows = [f"| {p.sentence} | {p.tries:,} | {p.failures:,} |" for p in promises]
    head = ["| promise | tries | failures |", "|---|---:|---:|"]
    return "\n".join([f"On {day.isoformat()}, on {where}:", "", *head, *rows])


def insert(document: str, content: str) -> str:
    """The document with the content between the two comments, in the place of what was there.

    Raises:
        ValueError: it does not have them.
    """
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not between.search(document):
        raise ValueError(f"the document has no {BEGIN} … {END}")
    return between.sub(lambda _: f"{BEGIN}\n\n{content}\n\n{END}", document)


def machine() -> str:
    """The machine in words: what it computes with, and the versions of what the promises depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} with {cores} cores ({_processor()}) and {memory:.0f} GiB of memory, "
        f"Python {platform.python_version()}, torch {version('torch')}, SQLite {sqlite3.sqlite_version}, "
        f"{_postgresql()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _postgresql() -> str:
    said = subprocess.run([find_program("postgres"), "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"\d+(\.\d+)*", said.stdout)
    return f"PostgreSQL {number[0] if number else said.stdout.strip()}"
