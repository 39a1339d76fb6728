"""The list of jobs stays fluid, however many there are."""

import sqlite3
import time

import httpx
import pytest
from playwright.sync_api import expect

MANY = 10_000


@pytest.fixture(scope="module")
def crowded(make_house, draw_shapes):
    """A server with ten thousand jobs that have ended."""
    house = make_house()
    draw_shapes(house.data / "shapes", train=2, val=2)
    house.serve()
    spec = {
        "name": "one",
        "dataset": {"path": "shapes"},
        "backbone": {"name": "tiny_net", "weights": None},
        "recipe": {"name": "joint", "epochs": 1},
    }
    job = httpx.post(f"{house.url}/v1/jobs", json=spec, trust_env=False, timeout=60).json()
    httpx.post(f"{house.url}/v1/jobs/{job['id']}/cancel", trust_env=False)
    with sqlite3.connect(house.home / "thaw.db") as db:
        columns = [
            row[1] for row in db.execute("PRAGMA table_info(jobs)") if row[1] not in ("seq", "id", "name")
        ]
        listed = ", ".join(columns)
        db.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "
            f"INSERT INTO jobs (id, name, {listed}) "
            f"SELECT printf('job_%024d', i), 'job ' || i, {listed} FROM n, jobs WHERE jobs.id = ?",
            (job["id"],),
        )
    return house


def test_ten_thousand_jobs_are_turned_over_page_by_page(crowded, open_page):
    page = open_page(crowded.url)
    rows = page.locator(".jobs tbody tr")
    expect(rows).to_have_count(25)
    expect(page.get_by_role("link", name=f"job {MANY}", exact=True)).to_be_visible()
    begun = time.monotonic()
    page.get_by_role("link", name="Older jobs").click()
    expect(page.get_by_role("link", name=f"job {MANY - 25}", exact=True)).to_be_visible()
    assert time.monotonic() - begun < 5
    expect(rows).to_have_count(25)
    page.go_back()
    expect(page.get_by_role("link", name=f"job {MANY}", exact=True)).to_be_visible()


def test_filters_narrow_the_list_and_keep_the_focus(crowded, open_page):
    page = open_page(crowded.url)
    expect(page.locator(".jobs tbody tr")).to_have_count(25)
    status = page.get_by_label("Status")
    status.focus()
    status.select_option("running")
    expect(page.get_by_text("No job is like that.")).to_be_visible()
    expect(status).to_be_focused()
    status.select_option("cancelled")
    expect(page.locator(".jobs tbody tr")).to_have_count(25)
    assert page.url.endswith("?status=cancelled")
