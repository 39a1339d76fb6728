"""What a page may load, and what names may not do."""

import gzip
import re
import time

import httpx
import pytest
from playwright.sync_api import expect

from app.web.assets import STATIC

MARKUP = '<img src=x onerror="document.title=1"><script>alert(1)</script>'
TURNING = "bees\u202egpj.exe\u2066"
MOST = 60_000  # bytes, compressed, of all of ours
SECOND = 1.0


def test_everything_of_ours_is_small_when_compressed(site, open_page):
    page = open_page(site.url)
    base = page.locator('link[rel="stylesheet"]').get_attribute("href").rsplit("/", 1)[0]
    names = [path.name for path in sorted(STATIC.iterdir()) if path.name != "index.html"]
    sizes = {name: _sent(site, f"{base}/{name}") for name in names}
    assert sum(sizes.values()) < MOST, sizes


def _sent(site, address):
    """Bytes on the wire."""
    with site.http.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as response:
        assert response.status_code == 200, address
        assert response.headers["Content-Encoding"] == "gzip"
        assert "immutable" in response.headers["Cache-Control"]
        raw = b"".join(response.iter_raw())
    assert gzip.decompress(raw)
    return len(raw)


def test_policy_allows_nothing_from_elsewhere_and_no_inline_script(site):
    policy = httpx.get(site.url, trust_env=False).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy  # so that the default counts
    assert policy.count("unsafe") == policy.count("style-src 'self' 'unsafe-inline'")
    assert "frame-ancestors 'none'" in policy
    document = httpx.get(site.url, trust_env=False).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", document)
    assert not re.search(r"""(src|href|content)=["'](https?:)?//""", document)


def test_first_page_is_usable_within_a_second(site, done, open_page):
    page = open_page(f"{site.url}/")  # the browser is warm; the page's files are fetched anew
    expect(page.locator(".jobs tbody tr").first).to_be_visible()
    tries = []
    for _ in range(3):
        fresh = open_page("about:blank")
        begun = time.monotonic()
        fresh.goto(site.url)
        fresh.locator(".jobs tbody tr").first.wait_for()
        tries.append(time.monotonic() - begun)
    assert min(tries) < SECOND, tries


@pytest.mark.parametrize("name", [MARKUP, TURNING])
def test_names_with_markup_or_marks_that_turn_words_are_shown_as_text(site, open_page, name):
    job_id = site.submit(name=name, metadata={"note": name})
    site.ended(job_id)
    shown = re.sub("[\u202e\u2066]", "\ufffd", name)
    for address in ("/", f"/jobs/{job_id}", f"/jobs/{job_id}/report"):
        page = open_page(site.url + address)
        expect(page.get_by_text(shown).first).to_be_visible()
        assert page.locator("main img[src='x'], main script").count() == 0
        assert "\u202e" not in page.inner_text("body")
        assert page.title() != "1"
