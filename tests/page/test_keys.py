"""A server that wants keys: the page asks, keeps them for the session, and says what they do not allow."""

import sys

import httpx
import pytest
from playwright.sync_api import expect

from tests.page.conftest import SPEC, STAGES


@pytest.fixture(scope="module")
def guarded(make_house, draw_shapes):
    """A server with a key of each kind."""
    house = make_house()
    draw_shapes(house.data / "shapes", train=4, val=2)

    def key(scope, owner=None):
        owned = ("--owner", owner) if owner else ()
        made = house.run(sys.executable, "-m", "app", "keys", "create", "--scope", scope, *owned)
        assert made.returncode == 0, made.stderr
        return next(word for word in (made.stdout + made.stderr).split() if word.startswith("thaw_"))

    keys = {"read": key("read", "zoo"), "submit": key("submit", "zoo"), "admin": key("admin")}
    house.serve()
    return house, keys


@pytest.fixture(autouse=True)
def _refusals_are_expected(faults):
    faults.allowed += ["401", "403"]


def test_key_is_asked_for_and_kept_for_the_session_alone(guarded, open_page):
    house, keys = guarded
    page = open_page(house.url)
    dialog = page.get_by_role("dialog", name="This server wants a key")
    expect(dialog).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    page.get_by_label("Key", exact=True).fill(keys["submit"])
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("No job yet")).to_be_visible()
    expect(page.get_by_text("zoo: this key may submit")).to_be_visible()
    page.reload()
    expect(page.get_by_text("No job yet")).to_be_visible()
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []
    other = open_page(house.url)
    expect(other.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Forget it").click()
    expect(dialog).to_be_visible()


def test_wrong_key_is_refused_in_the_api_s_words(guarded, open_page):
    house, _ = guarded
    page = open_page(house.url)
    page.get_by_label("Key", exact=True).fill("thaw_nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="This key was refused")).to_be_visible()
    expect(page.locator("#key-reason")).to_contain_text("this is no whole key")


def test_key_that_may_look_says_what_it_does_not_allow(guarded, open_page):
    house, keys = guarded
    page = open_page(f"{house.url}/new")
    page.get_by_label("Key", exact=True).fill(keys["read"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("This key may look, not submit.")).to_be_visible()
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()


def test_pictures_come_with_the_key_and_files_are_fetched_with_it(guarded, open_page):
    house, keys = guarded
    page = open_page(f"{house.url}/datasets/shapes")
    page.get_by_label("Key", exact=True).fill(keys["read"])
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.thumbs img')].some((i) => i.naturalWidth > 0)"
    )


def test_another_owner_s_job_is_not_there(guarded, open_page, faults):
    faults.allowed += ["404"]
    house, keys = guarded
    headers = {"Authorization": f"Bearer {keys['admin']}"}
    job = httpx.post(f"{house.url}/v1/jobs", json=SPEC | {"stages": STAGES}, headers=headers, trust_env=False)
    page = open_page(f"{house.url}/jobs/{job.json()['id']}")
    page.get_by_label("Key", exact=True).fill(keys["read"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("There is nothing here.")).to_be_visible()
