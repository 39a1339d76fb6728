"""The pictures that README and docs/page.md show, of real jobs on real photographs.

`python -m tests.page.screenshots` makes them. It wants hymenoptera and the MobileNet weights in `../shared`,
and takes some minutes.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from app.store.migrate import migrate
from tests.conftest import House
from tests.page.browser import launch

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DATA, WEIGHTS = SHARED / "data" / "hymenoptera", SHARED / "weights" / "mobilenet_v1.safetensors"
PICTURES = ROOT / "docs" / "pictures"
QUALITY = 88  # of WebP
PATIENCE = 900.0  # seconds for a job
OVER = ("succeeded", "failed", "cancelled")

SPEC: dict[str, Any] = {
    "dataset": {"path": "hymenoptera"},
    "backbone": {"name": "mobilenet_v1", "weights": {"file": WEIGHTS.name}},
    "image_size": 128,
}
TWO_STAGE = {"name": "two_stage"}
SHORT = {"name": "two_stage", "head_epochs": 20, "full_epochs": 3}
JOINT = {"name": "joint", "epochs": 5}


def main() -> None:
    """Makes all pictures.

    Raises:
        SystemExit: there are no photographs or no weights.
    """
    if not (DATA.is_dir() and WEIGHTS.is_file()):
        sys.exit(f"the pictures are of {DATA} and {WEIGHTS}, and these are not there")
    PICTURES.mkdir(exist_ok=True)
    with _thaw() as (house, http), sync_playwright() as playwright:
        browser = launch(playwright)
        job = _ended(
            http, _post(http, "/v1/jobs", {**SPEC, "name": "ants and bees", "recipe": TWO_STAGE})["id"]
        )
        experiment = _post(http, "/v1/experiments", _experiment())
        for trial in experiment["jobs"]:
            _ended(http, trial["id"])
        wrong = {**SPEC, "name": "a rate too large", "recipe": {"name": "joint", "epochs": 3, "lr": 1e5}}
        _ended(http, _post(http, "/v1/jobs", {**wrong, "image_size": 64})["id"])
        running = _post(
            http, "/v1/jobs", {**SPEC, "name": "ants and bees, seed 1", "recipe": TWO_STAGE, "seed": 1}
        )
        _post(http, "/v1/jobs", {**SPEC, "name": "ants and bees, jointly", "recipe": JOINT})
        _until(lambda: (_get(http, running["id"])["progress"] or {}).get("stage") == "all")
        for name, address, width, scheme, prepare in _shots(job["id"], experiment["id"]):
            _shoot(browser, house.url + address, name, width, scheme, prepare)


def _experiment() -> dict[str, Any]:
    variants = [
        {"name": "two_stage", "patch": {"recipe": SHORT}},
        {"name": "joint", "patch": {"recipe": JOINT}},
    ]
    return {
        "name": "two stages, or all at once",
        "spec": SPEC,
        "variants": variants,
        "seeds": [0, 1, 2],
    }


Prepare = Callable[[Page], object]
Shot = tuple[str, str, int, Any, Prepare]


def _shots(job: str, experiment: str) -> Iterator[Shot]:
    """Name, address, width, colour scheme, and what is done before the picture is taken."""
    yield "jobs", "/", 1280, "light", lambda page: page.locator(".spark").first.wait_for()
    yield "new-job", f"/new?from={job}", 1280, "light", _stages_by_hand
    yield "job", f"/jobs/{job}", 1280, "light", _drawn
    yield "report", f"/jobs/{job}/report", 1280, "light", _cell
    yield "try", f"/jobs/{job}/try", 1280, "light", _try
    yield (
        "dataset",
        "/datasets/hymenoptera",
        1280,
        "light",
        lambda page: page.locator(".notice").first.wait_for(),
    )
    yield "experiment", f"/experiments/{experiment}", 1280, "light", _drawn
    yield "job-narrow-dark", f"/jobs/{job}", 380, "dark", _drawn


def _drawn(page: Page) -> None:
    page.locator(".js-plotly-plot .main-svg").first.wait_for()


def _stages_by_hand(page: Page) -> None:
    page.get_by_role("button", name="Stages by hand").click()
    page.get_by_role("group", name="Stage 2").wait_for()
    page.wait_for_timeout(1500)  # the plan of the stages is drawn
    page.locator(".freeze-map tbody tr").nth(1).get_by_role("button").nth(8).click()
    page.locator(".freeze-map tbody tr").nth(1).locator("button.frozen").first.wait_for()
    page.mouse.move(0, 0)
    _drawn(page)


def _cell(page: Page) -> None:
    page.locator(".confusion tbody tr").first.get_by_role("button").last.click()
    page.get_by_role("heading", name="Photographs:").wait_for()
    page.evaluate("window.scrollTo(0, 0)")


def _try(page: Page) -> None:
    photograph = sorted((DATA / "val" / "bees").iterdir())[7]
    page.locator("#photograph").set_input_files(photograph)
    page.locator(".answer").wait_for()


def _shoot(browser: Browser, url: str, name: str, width: int, scheme: Any, prepare: Prepare) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    prepare(page)
    page.wait_for_timeout(1500)  # pictures come, and charts take their size
    content = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": _height(page)}, full_page=True)
    Image.open(io.BytesIO(content)).convert("RGB").save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)
    context.close()


def _height(page: Page) -> int:
    """Of the page, as far as a picture of it can be read."""
    return min(1300, int(page.evaluate("document.body.scrollHeight")))


@contextmanager
def _thaw() -> Iterator[tuple[House, httpx.Client]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"data_dir": DATA.parent, "weights_dir": WEIGHTS.parent, "data_workers": 1}
        house = House(Path(folder), **settings, backbones="examples.mobilenet_v1:backbone")
        (house.root / "examples").symlink_to(ROOT / "examples")
        migrate(house.database_url)
        try:
            house.serve()
            house.work(OMP_NUM_THREADS=2)
            with httpx.Client(base_url=house.url, trust_env=False, timeout=120) as http:
                yield house, http
        finally:
            house.close()


def _post(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(path, json=body)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _get(http: httpx.Client, job: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/jobs/{job}").json()
    return found


def _ended(http: httpx.Client, job: str) -> dict[str, Any]:
    found: dict[str, Any] = _until(lambda: (now := _get(http, job))["status"] in OVER and now)
    return found


def _until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit("it takes too long")
        time.sleep(0.5)
    return found


if __name__ == "__main__":
    main()
