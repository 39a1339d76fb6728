"""A real browser on a real server: every page that a test opens must stay without errors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import House
from tests.page.browser import launch

expect.set_options(timeout=15_000)  # two cores, and a worker that trains beside

SPEC: dict[str, Any] = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_net", "weights": None},
    "batch_size": 8,
}
STAGES = [
    {
        "name": "head",
        "epochs": 2,
        "freeze": {"policy": "backbone"},
        "lr": {"schedule": {"name": "constant", "lr": 0.05}},
    },
    {"name": "all", "epochs": 2, "lr": {"schedule": {"name": "cosine", "lr": 0.02, "end_lr": 0.0}}},
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of all tests."""
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@dataclass
class Site:
    """A server with a worker, and what tests ask it beside the page."""

    house: House
    http: httpx.Client
    until: Callable[..., Any]

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.house.url

    def submit(self, **changes: Any) -> str:
        """Submits a job; gives its id."""
        response = self.http.post("/v1/jobs", json=SPEC | {"stages": STAGES} | changes)
        assert response.status_code == 201, response.text
        found: str = response.json()["id"]
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as the API has it."""
        found: dict[str, Any] = self.http.get(f"/v1/jobs/{job_id}").json()
        return found

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        over = ("succeeded", "failed", "cancelled")
        found: dict[str, Any] = self.until(
            lambda: (job := self.job(job_id)) and job["status"] in over and job, 90, f"{job_id} ends"
        )
        return found


@pytest.fixture(scope="session")
def site(
    make_house: Callable[..., House], draw_shapes: Callable[..., Any], until: Callable[..., Any]
) -> Iterator[Site]:
    """A site with a small dataset and a worker, for tests that leave both as they are."""
    house = make_house()
    draw_shapes(house.data / "shapes")
    house.serve()
    house.work()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as http:
        yield Site(house, http, until)


@pytest.fixture(scope="session")
def done(site: Site) -> dict[str, Any]:
    """A job of two stages that has succeeded, with a report."""
    job = site.ended(site.submit(name="shapes", metadata={"team": "zoo"}))
    assert job["status"] == "succeeded", job
    return job


@dataclass
class Faults:
    """What pages complained about: errors of scripts, refusals of the policy, files that are not there."""

    said: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Listens to all pages of a context."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.said.append(str(error.error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.said.append(f"{message.text} {message.location.get('url', '')}")

    def left(self) -> list[str]:
        """What no test expected."""
        return [one for one in self.said if not any(part in one for part in self.allowed)]


@pytest.fixture
def faults() -> Iterator[Faults]:
    """What goes wrong in the test's pages; `faults.allowed` has what the test provokes."""
    found = Faults()
    yield found
    assert found.left() == []


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, faults: Faults) -> Iterator[OpenPage]:
    """`open_page(url, width=1280, scheme="light")` opens a page in a session of its own."""
    contexts = []

    def make(url: str, width: int = 1280, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(20_000)
        faults.watch(context)
        page = context.new_page()
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()


def open_form(site: Site, open_page: OpenPage) -> Page:
    """The form of a new job on the shapes with the tiny network, its plan drawn."""
    page = open_page(f"{site.url}/new?dataset=shapes")
    page.get_by_label("Backbone").fill("tiny_net")
    page.get_by_label("Starts from").select_option(label="none: from scratch")
    expect(page.locator(".freeze-map thead th")).to_have_text(["stem", "body", "head"])
    return page
