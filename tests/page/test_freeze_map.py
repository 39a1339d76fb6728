"""The freeze map sets the boundary, and the plan follows."""

import re

from playwright.sync_api import expect

from tests.page.conftest import open_form


def _row(page, index):
    cells = page.locator(".freeze-map tbody tr").nth(index).locator("button")
    return [cell.get_attribute("class") for cell in cells.all()]


def _groups(page):
    """The rates' lines as Plotly has them: name → values."""
    lines = page.locator(".plan .js-plotly-plot").evaluate("plot => plot.data.map(d => [d.name, d.x, d.y])")
    return {name: dict(zip(xs, ys, strict=True)) for name, xs, ys in lines}


def test_map_sets_the_boundary_and_the_rates_change_with_it(site, open_page):
    page = open_form(site, open_page)
    assert _row(page, 0) == ["frozen", "frozen", "head"]
    assert _row(page, 1) == ["trained", "trained", "head"]
    page.locator(".freeze-map tbody tr").nth(1).get_by_role("button", name=re.compile("body")).click()
    expect(page.locator(".freeze-map tbody tr").nth(1).locator("button").first).to_have_class("frozen")
    assert _row(page, 1) == ["frozen", "trained", "head"]
    assert _row(page, 0) == ["frozen", "frozen", "head"]
    # The recipe has become stages, whose form says the same.
    expect(page.get_by_label("Freeze").nth(1)).to_have_value("2")
    expect(page.get_by_label("Module", exact=True)).to_have_value("body")


def test_rates_of_the_chart_are_those_of_the_plan(site, open_page):
    page = open_form(site, open_page)
    page.get_by_role("button", name="Stages by hand").click()
    page.get_by_label("Epochs", exact=True).nth(0).fill("2")
    page.get_by_label("Epochs", exact=True).nth(1).fill("3")
    expect(page.get_by_text("2 stages, 5 epochs")).to_be_visible()
    before = _groups(page)
    first = page.get_by_label("Learning rate", exact=True).nth(0)
    first.select_option("constant")
    page.locator('input[data-focus="stages.0.lr.schedule.lr"]').fill("0.5")
    page.wait_for_function(
        "() => document.querySelector('.plan .js-plotly-plot').data[0].y[0] === 0.5", timeout=15_000
    )
    assert _groups(page) != before


def test_plan_that_comes_late_is_not_shown(site, open_page):
    page = open_form(site, open_page)
    page.get_by_role("button", name="Stages by hand").click()
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.nth(1).fill("3")
    held = []

    def hold(route):
        stages = route.request.post_data_json["stages"]
        held.append(route) if stages[0]["epochs"] == 7 else route.continue_()

    page.route("**/v1/jobs/plan", hold)
    epochs.nth(0).fill("7")
    while not held:
        page.wait_for_timeout(50)
    epochs.nth(0).fill("2")
    expect(page.get_by_text("2 stages, 5 epochs")).to_be_visible()
    with page.expect_response("**/v1/jobs/plan"):
        held[0].continue_()
    page.wait_for_timeout(500)
    expect(page.get_by_text("2 stages, 5 epochs")).to_be_visible()


def test_map_is_used_by_keyboard_alone(site, open_page):
    page = open_form(site, open_page)
    first = page.locator(".freeze-map button").first
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".freeze-map tbody tr").nth(1).locator("button").first).to_have_class("frozen")
    expect(page.locator('.freeze-map button[data-focus="1/1"]')).to_be_focused()


def test_stages_are_added_removed_and_reordered(site, open_page):
    page = open_form(site, open_page)
    page.get_by_role("button", name="Stages by hand").click()
    expect(page.get_by_role("group", name="Stage 2")).to_be_visible()
    page.get_by_role("button", name="Add a stage").click()
    expect(page.locator(".freeze-map tbody tr")).to_have_count(3)
    names = page.get_by_label("Name", exact=True)
    names.nth(3).fill("last")
    page.get_by_role("button", name="move stage 3 up").click()
    expect(names.nth(2)).to_have_value("last")
    page.get_by_role("button", name="remove stage 1").click()
    expect(page.locator(".freeze-map tbody tr")).to_have_count(2)
    expect(names.nth(1)).to_have_value("last")
