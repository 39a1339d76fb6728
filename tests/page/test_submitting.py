"""From the form to the file, as somebody would who never saw Thaw."""

import hashlib
import json
import re

from playwright.sync_api import expect


def test_two_stage_job_is_submitted_through_the_form_and_followed_to_the_download(site, open_page):
    page = open_page(f"{site.url}/new")
    page.get_by_label("Name", exact=True).first.fill("from the form")
    page.get_by_label("Dataset").select_option("shapes")
    expect(page.get_by_text("3 classes: circle 18, square 18, triangle 18")).to_be_visible()
    page.get_by_label("Backbone").fill("tiny_net")
    expect(page.get_by_label("Starts from")).to_be_visible()
    page.get_by_label("Starts from").select_option(label="none: from scratch")
    page.get_by_label("Head epochs").fill("2")
    page.get_by_label("Full epochs").fill("2")
    expect(page.get_by_text("2 stages, 4 epochs")).to_be_visible()
    page.get_by_role("button", name="Start the job").click()

    expect(page.get_by_role("heading", name="from the form")).to_be_visible()
    job_id = page.url.rsplit("/", 1)[1]
    expect(page.locator(".status.succeeded").first).to_be_visible(timeout=60_000)
    table = page.get_by_role("group", name="Epochs")
    expect(table.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_text("Load the model")).to_be_visible()
    job = site.job(job_id)
    assert [stage["epochs"] for stage in job["resolved_spec"]["stages"]] == [2, 2]

    with page.expect_download() as downloading:
        page.get_by_role("link", name="weights of").first.click()
    content = downloading.value.path().read_bytes()
    known = {one["sha256"] for one in site.http.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]}
    assert hashlib.sha256(content).hexdigest() in known


def test_spec_is_text_both_ways(site, open_page, faults):
    faults.allowed += ["422"]
    page = open_page(f"{site.url}/new?dataset=shapes")
    page.get_by_text("As text: JSON, YAML, curl, Python").click()
    text = page.get_by_label("The spec as text")
    expect(text).to_have_value(re.compile("two_stage"))
    spec = json.loads(text.input_value())
    spec["recipe"] = {"name": "joint", "epochs": 7}
    spec["backbone"] = {"name": "tiny_net", "weights": None}
    text.fill(json.dumps(spec))
    expect(page.get_by_label("Recipe", exact=True)).to_have_value("1")
    expect(page.get_by_label("Epochs", exact=True)).to_have_value("7")
    page.get_by_role("button", name="YAML").click()
    expect(text).to_have_value(re.compile("name: joint"))
    text.fill("dataset: {path: shapes}\nbackbone: {name: tiny_net, weights: null}\nrecipe: {name: [")
    expect(page.locator("#spec-text-problem")).to_contain_text("line 3")
