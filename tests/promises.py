"""What Thaw promises, and how often each was tried: the tests with `@pytest.mark.promise("…")`."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import pytest

Tried = Callable[[int], None]


@dataclass
class Promise:
    """One line of the summary."""

    sentence: str
    tries: int = 0
    failures: int = 0


PROMISES = pytest.StashKey[dict[str, Promise]]()
TRIES = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known."""
    config.addinivalue_line("markers", "promise(sentence): what Thaw promises here, for docs/reliability.md")
    config.stash[PROMISES] = {}


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
    if mark and (report.when == "call" or report.failed):
        promise = item.config.stash[PROMISES].setdefault(mark.args[0], Promise(mark.args[0]))
        promise.tries += item.stash.get(TRIES, 1)
        promise.failures += report.failed
    return report
