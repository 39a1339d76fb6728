"""For everybody: contrast, names and roles by axe, on every page, light and dark, wide and narrow."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

WIDE, NARROW = 1280, 380
READY = {
    "/": ".jobs tbody tr",
    "/new?dataset=shapes": ".freeze-map",
    "/jobs/{job}": ".status.succeeded",
    "/jobs/{job}/report": ".confusion",
    "/jobs/{job}/try": ".drop",
    "/datasets": "table",
    "/datasets/shapes": ".thumbs img",
    "/experiments": "table",
    "/experiments/{experiment}": "table",
    "/jobs/job_x": ".empty",
}


@pytest.fixture(scope="module")
def experiment(site):
    """An experiment with jobs that wait or have ended."""
    variants = [
        {"name": f"rate {rate}", "patch": {"recipe": {"name": "joint", "epochs": 1, "lr": rate}}}
        for rate in (0.01, 0.1)
    ]
    spec = {"dataset": {"path": "shapes"}, "backbone": {"name": "tiny_net", "weights": None}}
    body = {"name": "rates", "spec": spec, "variants": variants, "seeds": [0, 1]}
    found = site.http.post("/v1/experiments", json=body).json()
    for job in found["jobs"]:
        site.ended(job["id"])
    return found["id"]


@pytest.mark.parametrize("address", READY)
def test_no_serious_violation_of_axe_and_nothing_wider_than_the_screen(
    site, done, experiment, open_page, faults, address
):
    faults.allowed += ["404"] if "job_x" in address else []
    path = address.format(job=done["id"], experiment=experiment)
    for width in (WIDE, NARROW):
        for scheme in ("light", "dark"):
            page = open_page(site.url + path, width, scheme)
            expect(page.locator(READY[address]).first).to_be_visible()
            if address.startswith("/jobs/{job}"):
                page.wait_for_timeout(300)
            found = Axe().run(page).response["violations"]
            grave = [
                (one["id"], [node["html"][:150] for node in one["nodes"][:3]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert grave == [], (path, width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width, scheme)
            page.close()


def test_page_is_reached_by_keyboard_alone(site, done, open_page):
    page = open_page(site.url)
    expect(page.locator(".jobs tbody tr").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New job").last).to_be_focused()


def test_experiment_says_its_answer_and_shows_the_curves_of_all_variants(site, experiment, open_page):
    page = open_page(f"{site.url}/experiments/{experiment}")
    answer = site.http.get(f"/v1/experiments/{experiment}").json()["answer"]
    expect(page.locator(".answer")).to_have_text(answer)
    expect(page.get_by_role("button", name="Cancel what is left")).to_be_hidden()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')?.data.length === 4")
