"""Nothing is lost by a reload, a killed server, or a connection that breaks."""

import re
import signal

import httpx
import pytest
from playwright.sync_api import expect

from tests.page.conftest import SPEC, Site

LONG = [{"name": "slowly", "epochs": 40, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}]


@pytest.fixture
def own_site(make_house, draw_shapes, until):
    house = make_house()
    draw_shapes(house.data / "shapes", train=4, val=2)
    server = house.serve()
    house.work()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as http:
        yield Site(house, http, until), server


def test_reload_and_a_killed_server_during_training_lose_nothing(own_site, open_page, faults):
    site, server = own_site
    faults.allowed += ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET", "503"]
    job_id = site.submit(backbone={**SPEC["backbone"], "name": "tiny_slow"}, stages=LONG)
    page = open_page(f"{site.url}/jobs/{job_id}")
    rows = page.get_by_role("group", name="Epochs").locator("tbody tr")
    expect(rows.nth(2)).to_be_visible(timeout=60_000)
    before = rows.count()
    page.reload()
    expect(rows.nth(before - 1)).to_be_visible()

    server.send_signal(signal.SIGKILL)
    server.wait()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    site.house.serve()
    expect(page.get_by_text("The server does not answer")).to_be_hidden(timeout=30_000)
    expect(page.locator(".status.succeeded").first).to_be_visible(timeout=90_000)
    expect(rows).to_have_count(40)
    shown = [int(text) for text in page.locator("tbody th.num").all_inner_texts()]
    assert shown == list(range(40, 0, -1))
    drawn = page.locator(".js-plotly-plot").first.evaluate("plot => plot.data.map(({ x }) => [...x])")
    assert drawn == [list(range(1, 41))] * 2


def test_job_is_paused_resumed_and_cancelled_by_its_buttons(own_site, open_page):
    site, _ = own_site
    for_long = [{**LONG[0], "epochs": 1000}]  # whoever presses a button is slower than a few epochs
    job_id = site.submit(backbone={**SPEC["backbone"], "name": "tiny_slow"}, stages=for_long)
    page = open_page(f"{site.url}/jobs/{job_id}")
    expect(page.locator(".status.running").first).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".status.paused").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".status.running").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".status.cancelled").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Tries again")).to_be_visible()
    assert not page.url.endswith(job_id)
    again = page.url.rsplit("/", 1)[1]
    assert site.job(again)["parent"] == job_id
    site.http.post(f"/v1/jobs/{again}/cancel")


def test_open_page_asks_without_being_told_anything_twice(site, done, open_page):
    page = open_page(f"{site.url}/")
    expect(page.get_by_role("link", name="shapes").first).to_be_visible()
    statuses = []
    page.on("response", lambda response: statuses.append((response.url, response.status)))
    page.wait_for_timeout(5000)
    assert statuses, "the page has stopped looking"
    assert {status for _, status in statuses} == {304}
    assert all(re.search(r"/v1/jobs\?", url) for url, _ in statuses)


def test_page_of_a_job_that_has_ended_asks_nothing_more(site, done, open_page):
    page = open_page(f"{site.url}/jobs/{done['id']}")
    expect(page.locator(".status.succeeded").first).to_be_visible()
    page.wait_for_timeout(1500)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert asked == []


def test_page_that_nobody_sees_asks_nothing_until_somebody_does(site, done, open_page):
    page = open_page(f"{site.url}/")
    expect(page.get_by_role("link", name="shapes").first).to_be_visible()
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away}); window.away = true")
    page.wait_for_timeout(2500)  # for a look that was under way
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)
    assert asked == []
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(1000)
    assert asked
