"""What a job gets wrong: the matrix, its photographs, and labels that may be wrong."""

import csv
import io

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import Site

WELL = [{"epochs": 12, "lr": {"schedule": {"name": "constant", "lr": 0.1}}}]


@pytest.fixture(scope="module")
def mislabelled(make_house, draw_shapes, until):
    """A job on shapes of which one of the validation images lies in the wrong folder."""
    house = make_house()
    folder = draw_shapes(house.data / "shapes", noise=10)
    wrong = folder / "val" / "circle" / "wrong.png"
    Image.new("RGB", (24, 24), (10, 250, 10)).save(wrong)
    for number in range(12):  # greens are squares
        Image.new("RGB", (24, 24), (10, 250 - number, 10)).save(
            folder / "train" / "square" / f"green-{number}.png"
        )
    house.serve()
    house.work()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as http:
        site = Site(house, http, until)
        job = site.ended(site.submit(stages=WELL))
        assert job["status"] == "succeeded", job
        yield site, job


def test_a_cell_of_the_confusion_matrix_shows_its_photographs(mislabelled, open_page):
    site, job = mislabelled
    report = site.http.get(f"/v1/jobs/{job['id']}/report").json()
    names, matrix = report["classes"], report["confusion"]
    label, prediction = names.index("circle"), names.index("square")
    assert matrix[label][prediction] >= 1
    page = open_page(f"{site.url}/jobs/{job['id']}/report")
    cell = page.locator(".confusion tbody tr").nth(label).get_by_role("button").nth(prediction)
    expect(cell).to_have_text(str(matrix[label][prediction]))
    cell.click()
    expect(page.get_by_role("heading", name="Photographs: circle, taken for square")).to_be_visible()
    shown = page.locator("section", has=page.get_by_role("heading", name="Photographs:")).locator(
        ".gallery li"
    )
    expect(shown).to_have_count(matrix[label][prediction])
    picture = page.get_by_role("img", name="val/circle/wrong.png").first
    expect(picture).to_be_visible()
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())


def test_suspected_labels_are_exported_as_a_corrected_manifest(mislabelled, open_page):
    site, job = mislabelled
    page = open_page(f"{site.url}/jobs/{job['id']}/report")
    page.get_by_label("Sure by at least").select_option("0.8")
    part = page.locator("section", has=page.get_by_role("heading", name="Suspected wrong labels"))
    wrong = part.locator("li", has_text="wrong.png")
    wrong.get_by_role("checkbox").check()
    expect(part.get_by_text("1 label to be corrected")).to_be_visible()
    with page.expect_download() as downloading:
        part.get_by_role("button", name="Export a corrected manifest").click()
    rows = list(csv.DictReader(io.StringIO(downloading.value.path().read_text())))
    (row,) = [row for row in rows if "wrong.png" in str(row)]
    assert "square" in row.values()
    assert len(rows) == sum(
        len(list((site.house.data / "shapes" / s).rglob("*.png"))) for s in ("train", "val")
    )


def test_job_without_a_report_says_why(site, open_page, faults):
    faults.allowed += ["404"]
    job_id = site.submit(range_test={"steps": 10})
    site.ended(job_id)
    page = open_page(f"{site.url}/jobs/{job_id}/report")
    expect(page.get_by_text("it looks for a learning rate")).to_be_visible()
    page.goto(f"{site.url}/jobs/{job_id}")
    expect(page.get_by_role("heading", name="Learning rate").first).to_be_visible()


@pytest.mark.parametrize(
    ("objective", "headings"),
    [
        (
            {"name": "binary_cross_entropy"},
            ["Confusion", "Classes", "Calibration", "Most confident mistakes"],
        ),
        (
            {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2},
            ["Confusion", "Classes", "Nearest mistakes"],
        ),
    ],
    ids=["several labels", "embedding"],
)
def test_reports_of_other_kinds_are_shown_with_what_they_have(site, open_page, objective, headings):
    one_epoch = [{"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}]
    job = site.ended(site.submit(objective=objective, stages=one_epoch))
    assert job["status"] == "succeeded", job["error"]
    page = open_page(f"{site.url}/jobs/{job['id']}/report")
    for heading in headings:
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    report = site.http.get(f"/v1/jobs/{job['id']}/report").json()
    assert report["mistake_count"] > 0
    expect(page.locator(".gallery li").first).to_be_visible()
    page.goto(f"{site.url}/jobs/{job['id']}")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
