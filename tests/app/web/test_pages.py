"""The pages' document and its files. What they show is in tests/page, in a browser."""

import gzip
import re

import httpx
import pytest

from app.web.assets import STATIC, our_files
from app.web.pages import PAGES

ADDRESSES = [re.sub(r"\{\w+(:path)?\}", "some_x", path) for path in PAGES]


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_is_the_same_document_and_holds_nothing_of_anybody(api, post, address):
    post(name="a secret name")
    response = api.get(address)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.text == api.get("/").text
    assert "secret" not in response.text
    assert api.get(address, headers={"If-None-Match": response.headers["ETag"]}).status_code == 304


def test_pages_load_and_run_what_the_server_has_and_nothing_else(api):
    response = api.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    for kind in ("object-src", "base-uri", "form-action", "frame-ancestors"):
        assert f"{kind} 'none'" in policy
    addresses = re.findall(r"""(?:src|href|content)="(/[^"]*)\"""", response.text)
    assert len(addresses) > 8
    for address in addresses:
        assert api.get(address).status_code == 200, address


def test_our_files_are_compressed_and_kept_for_good_under_their_address(api):
    (base,) = re.findall(r'href="(/assets/\w+)/thaw.css"', api.get("/").text)
    for name, asset in our_files().items():
        if name == "index.html":
            assert api.get(f"{base}/{name}").status_code == 404
            continue
        response = api.get(f"{base}/{name}")
        assert response.content == asset.content == (STATIC / name).read_bytes()
        assert response.headers["Content-Encoding"] == "gzip"
        assert "immutable" in response.headers["Cache-Control"]
        plain = api.get(f"{base}/{name}", headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        assert plain.content == asset.content
        assert gzip.decompress(asset.compressed) == asset.content
    old = api.get("/assets/0123456789abcdef/app.js")
    assert old.status_code == 200
    assert old.headers["Cache-Control"] == "no-cache"


def test_plotly_comes_from_its_package_compressed(api):
    (address,) = re.findall(r'content="(/assets/plotly/[^"]+)"', api.get("/").text)
    with api.stream("GET", address) as response:
        sent = sum(len(part) for part in response.iter_raw())
        assert response.headers["Content-Encoding"] == "gzip"
        assert "immutable" in response.headers["Cache-Control"]
    assert 500_000 < sent < 2_500_000


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpages.py", "%2e%2e%2f%2e%2e%2fgate.py", "assets.py"])
def test_nothing_but_our_files_is_served(api, name):
    assert api.get(f"/assets/x/{name}").status_code == 404


def test_every_module_that_is_imported_is_there():
    names = {path.name for path in STATIC.iterdir()}
    for path in STATIC.glob("*.js"):
        for wanted in re.findall(r"""(?:from|import\()\s*["']\./([\w.-]+)["']""", path.read_text()):
            assert wanted in names, (path.name, wanted)


def test_no_module_writes_markup():
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in text, (path.name, way)


def test_page_is_there_without_a_key_and_its_data_are_not(anybody):
    assert anybody.get("/", headers={"Accept": "text/html"}).status_code == 200
    assert anybody.get("/jobs/job_x").status_code == 200
    assert anybody.get("/v1/jobs").status_code == 401
    assert isinstance(anybody, httpx.Client)
