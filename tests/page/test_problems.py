"""Each problem stands at its field, in the API's own words."""

from playwright.sync_api import expect

from tests.page.conftest import open_form


def _words(site, spec, param):
    answer = site.http.post("/v1/jobs/plan", json=spec)
    assert answer.status_code == 422
    (found,) = [one["message"] for one in answer.json()["error"]["details"] if one["param"] == param]
    return found


def test_wrong_input_shows_the_api_s_sentence_at_its_field(site, open_page, faults):
    faults.allowed += ["422"]
    page = open_form(site, open_page)
    field = page.get_by_label("Head learning rate")
    field.fill("fast")
    spec = {
        "dataset": {"path": "shapes"},
        "backbone": {"name": "tiny_net", "weights": None},
        "recipe": {"name": "two_stage", "head_lr": "fast"},
    }
    message = _words(site, spec, "recipe.head_lr")
    expect(page.locator('[data-param="recipe.head_lr"]')).to_have_text(
        f"{message[0].upper()}{message[1:]}".rstrip(".") + "."
    )
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("0.02")
    expect(page.locator('[data-param="recipe.head_lr"]')).to_have_text("")
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_unknown_backbone_is_said_at_its_field_with_the_closest_names(site, open_page, faults):
    faults.allowed += ["422"]
    page = open_form(site, open_page)
    page.get_by_label("Backbone").fill("tiny_nett")
    expect(page.locator('[data-param="backbone.name"]')).to_contain_text("tiny_net")


def test_several_problems_stand_at_several_fields_at_once(site, open_page, faults):
    faults.allowed += ["422"]
    page = open_form(site, open_page)
    page.get_by_role("button", name="Stages by hand").click()
    page.get_by_label("Epochs", exact=True).nth(0).fill("0")
    page.get_by_label("Epochs", exact=True).nth(1).fill("many")
    expect(page.locator('[data-param="stages.0.epochs"]')).not_to_have_text("")
    expect(page.locator('[data-param="stages.1.epochs"]')).not_to_have_text("")


def test_job_that_is_refused_at_the_end_says_why_and_stays_on_the_form(site, open_page, faults):
    faults.allowed += ["422"]
    page = open_form(site, open_page)
    page.get_by_label("Head epochs").fill("-1")
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator('[data-param="recipe.head_epochs"]')).not_to_have_text("")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
