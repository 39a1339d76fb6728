"""Who gets in. The walks go over the application's own routes, not over its OpenAPI page."""

import asyncio
import base64
import re
import sqlite3

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute

from app.gate import scope_of
from app.keys import new_key, sha256_of
from app.main import create_app
from app.settings import Settings
from app.store import keys
from app.store.database import Database
from app.store.migrate import migrate
from app.store.scopes import Scope
from tests.app.guarded import routes_of

# Written out here: what is opened in the application by mistake is not opened in the test, too.
OPEN = {"/healthz", "/readyz", "/docs", "/openapi.json"}
# The page, which holds nothing: what it shows, it asks for.
PAGE = {
    "/",
    "/new",
    "/jobs/{job}",
    "/jobs/{job}/report",
    "/jobs/{job}/try",
    "/datasets",
    "/datasets/{name:path}",
    "/experiments",
    "/experiments/{experiment}",
    "/assets/plotly/{version}/plotly.min.js",
    "/assets/{version}/{name}",
}
READ_BY_POST = {
    "/v1/jobs/plan",
    "/v1/jobs/{job_id}/predict",
    "/v1/jobs/{job_id}/report/corrections",
    "/v1/specs/convert",
}
LOOKS = ("GET", "HEAD")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "REPORT")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """All paths that the application answers at, those of mounted ones, too."""
    app = create_app(Settings(home_dir=tmp_path_factory.mktemp("home")))
    found = [path for path, _ in routes_of(app)]
    assert len(set(found)) > 25
    assert set(found) >= OPEN | PAGE | READ_BY_POST
    return sorted({*found, "/", "/v1", "/not/there", "/v1/jobs/job_x/not-there"})


def _address(path):
    return re.sub(r"\{\w+(:path)?\}", "some_x", path)


@pytest.mark.promise("Without a key every route is closed but the open ones, whatever the method")
def test_without_a_key_every_route_and_method_is_closed(anybody, paths, tried):
    for path in paths:
        for method in METHODS:
            response = anybody.request(method, _address(path))
            if path in OPEN | PAGE and method in LOOKS:
                assert response.status_code in (200, 404, 405), (method, path)
                continue
            assert response.status_code == 401, (method, path)
            assert response.headers["WWW-Authenticate"].startswith("Bearer realm="), (method, path)
            if method != "HEAD":
                assert response.json()["error"]["code"] == "key_missing"
    tried(len(paths) * len(METHODS))


@pytest.mark.promise("A key that allows too little opens nothing more")
def test_a_call_that_needs_more_than_the_key_allows_is_refused(holder, paths, tried, owner):
    somebody = holder("read", owner("zoo"))
    for path in paths:
        for method in METHODS:
            needs_more = method not in LOOKS and not (method == "POST" and path in READ_BY_POST)
            response = somebody.http.request(method, _address(path))
            assert response.status_code != 401, (method, path)
            assert (response.status_code == 403) is needs_more, (method, path)
            if response.status_code == 403:
                assert 'error="insufficient_scope", scope="submit"' in response.headers["WWW-Authenticate"]
                error = response.json()["error"]
                assert error["code"] == "scope_missing"
                assert "scope read, and this call needs submit" in error["message"]
    tried(len(paths) * len(METHODS))


@pytest.fixture
def tomorrow(tmp_path):
    """An application to which somebody adds routes, with one key in its database; asks it something."""
    settings = Settings(home_dir=tmp_path / "home")
    migrate(settings.database_url)
    db, key = Database(settings.database_url), new_key()
    keys.create_key(db, sha256=sha256_of(key), scope=Scope.SUBMIT, owner="zoo")
    db.dispose()
    app = create_app(settings)
    app.add_api_route("/v1/tomorrow", lambda: "in")
    app.add_route("/plain", lambda request: PlainTextResponse("in"))
    app.mount("/mounted", PlainTextResponse("in"))

    async def ask(path, sent=None):
        headers = {"Authorization": f"Bearer {key}"} if sent else {}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    yield app, lambda path, sent=None: asyncio.run(ask(path, sent))
    app.state.db.dispose()


@pytest.mark.parametrize("path", ["/v1/tomorrow", "/plain", "/mounted/x"])
def test_a_route_that_is_added_tomorrow_is_closed(tomorrow, path):
    _, ask = tomorrow
    assert ask(path).status_code == 401
    opened = ask(path, "with the key")
    assert opened.status_code == 200
    assert "in" in opened.text


def test_a_websocket_that_is_added_tomorrow_is_closed(tomorrow):
    app, _ = tomorrow

    async def accept(socket):
        await socket.accept()

    app.router.routes.append(WebSocketRoute("/socket", accept))
    said = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        said.append(message["type"])

    scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b"", "subprotocols": []}
    asyncio.run(app(scope, receive, send))
    assert said == ["websocket.close"]


def test_a_key_opens_what_it_allows(holder, owner):
    somebody = holder("submit", owner("zoo"))
    job = somebody.http.get(f"/v1/jobs/{somebody.submit()}").json()
    assert job["owner"] == somebody.row.owner


@pytest.mark.parametrize("spelled", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_the_word_before_the_key_may_be_written_in_any_case(anybody, holder, owner, spelled):
    key = holder("read", owner("zoo")).key
    headers = {"Authorization": spelled.format(key)}
    assert anybody.get("/v1/jobs", headers=headers).status_code == 200


WRONG = {
    "key_unknown": ["Bearer {new}", "Bearer thaw_x", "Bearer", "Bearer {key}a", "Bearer {key} {key}"],
    "key_unreadable": ["{key}", "Token {key}", "Digest {key}", "Basic !", "Basic /w=="],
}


@pytest.mark.parametrize(("code", "sent"), [(code, sent) for code in WRONG for sent in WRONG[code]])
def test_what_is_no_key_opens_nothing(anybody, holder, owner, code, sent):
    key = holder("read", owner("zoo")).key
    headers = {"Authorization": sent.format(key=key, new=new_key())}
    response = anybody.get("/v1/jobs", headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == code
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert key not in response.text


def test_two_keys_at_once_open_nothing(anybody, holder, owner):
    sent = [("Authorization", f"Bearer {holder('read', owner('zoo')).key}") for _ in range(2)]
    assert anybody.get("/v1/jobs", headers=sent).status_code == 401


def test_a_key_in_the_address_opens_nothing(anybody, holder, owner):
    key = holder("read", owner("zoo")).key
    for name in ("key", "api_key", "access_token", "token"):
        assert anybody.get("/v1/jobs", params={name: key}).status_code == 401


@pytest.mark.promise("A revoked or expired key opens nothing, from the next request on")
def test_a_revoked_key_opens_nothing_from_the_next_request_on(guarded, holder, owner):
    somebody = holder("submit", owner("zoo"))
    assert somebody.http.get("/v1/jobs").status_code == 200
    keys.revoke_key(guarded.db, somebody.row.id)
    response = somebody.http.get("/v1/jobs")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "key_revoked")
    assert somebody.row.id in response.json()["error"]["message"]


@pytest.mark.promise("A revoked or expired key opens nothing, from the next request on")
def test_an_expired_key_opens_nothing(holder, owner):
    assert holder("submit", owner("zoo"), lifetime_seconds=600).http.get("/v1/jobs").status_code == 200
    response = holder("submit", owner("zoo"), lifetime_seconds=-0.1).http.get("/v1/jobs")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "key_expired")


def _password(key):
    return {"Authorization": "Basic " + base64.b64encode(f"anyone:{key}".encode()).decode()}


def test_a_browser_that_follows_a_link_asks_for_the_key_as_a_password(anybody, holder, owner):
    somebody = holder("submit", owner("zoo"))
    job, html = somebody.submit(), {"Accept": "text/html,*/*"}
    for path in ("/v1/jobs", f"/v1/jobs/{job}"):
        asked = anybody.get(path, headers=html)
        assert (asked.status_code, asked.headers["WWW-Authenticate"][:6]) == (401, "Basic ")
        answer = anybody.get(path, headers=html | _password(somebody.key))
        assert answer.status_code == 200
        assert job in answer.text


def test_a_password_changes_nothing(anybody, holder, owner):
    somebody = holder("submit", owner("zoo"))
    job = somebody.submit()
    response = anybody.post(f"/v1/jobs/{job}/cancel", headers=_password(somebody.key))
    assert (response.status_code, response.json()["error"]["code"]) == (401, "key_unreadable")
    assert somebody.http.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_a_refused_upload_is_not_read_to_its_end(anybody):
    def endless():
        for _ in range(4000):
            yield bytes(10_000_000)
            sent.append(1)

    sent: list[int] = []
    try:
        response = anybody.put("/v1/datasets/zoo", content=endless())
    except httpx.TransportError:  # the server hung up while this one was sending
        pass
    else:
        assert response.status_code == 401
        assert response.headers["Connection"] == "close"
    assert len(sent) < 1000


def test_figures_need_a_key_and_health_needs_none(anybody, holder, owner):
    assert anybody.get("/healthz").json() == {"status": "alive"}
    assert anybody.get("/readyz").json() == {"status": "ready"}
    assert anybody.get("/metrics").status_code == 401
    assert "thaw_jobs" in holder("read", owner("zoo")).http.get("/metrics").text


@pytest.mark.promise("No key gets into a log or into the database")
def test_no_key_gets_into_a_log_or_the_database(guarded, anybody, holder, owner):
    somebody = holder("submit", owner("zoo"))
    key, headers = somebody.key, {"Authorization": f"Bearer {somebody.key}"}
    job = somebody.submit(name="logged")
    somebody.http.delete(f"/v1/jobs/{job}")  # 409
    somebody.http.get("/v1/jobs/job_x", params={"key": key})  # 404
    somebody.http.post("/v1/jobs", content=b"{", headers={"X-Key": key})  # 400
    anybody.get("/", headers=_password(key))
    anybody.get("/v1/jobs", headers={"Authorization": f"Token {key}"})
    anybody.post("/v1/jobs", headers={"Authorization": f"Bearer {key}x"})
    anybody.get("/v1/jobs", headers=[("Authorization", key), ("Authorization", key)])
    anybody.put("/v1/datasets/zoo", headers=headers, content=b"no zip")
    written = guarded.log("server")
    assert f"/v1/jobs/{job}" in written
    assert somebody.row.id in written
    assert key not in written
    assert key[5:] not in written
    for file in guarded.home.rglob("*"):
        if file.is_file():
            assert key[5:].encode() not in file.read_bytes(), file


def test_the_page_about_the_api_says_which_key_each_call_needs(anybody):
    page = anybody.get("/openapi.json").json()
    (scheme,) = page["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, calls in page["paths"].items():
        for method, call in calls.items():
            if path in OPEN:
                assert "security" not in call
                continue
            reads = method == "get" or path in READ_BY_POST
            assert call["security"] == [{"key": ["read" if reads else "submit"]}, {}], (method, path)
            assert "401" in call["responses"]
            assert ("scope_missing" in str(call["responses"].get("403"))) is not reads or path.endswith(
                "name}"
            )


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/v1/jobs", "read"),
        ("POST", "/v1/jobs", "submit"),
        ("POST", "/v1/jobs/plan", "read"),
        ("POST", "/v1/jobs/plan/", "submit"),
        ("POST", "/v1/jobs/job_1/predict", "read"),
        ("POST", "/v1/jobs/job_1/x/predict", "submit"),
        ("POST", "/v1/jobs/job_1/predict/x", "submit"),
        ("PUT", "/v1/jobs/plan", "submit"),
        ("OPTIONS", "/v1/jobs", "submit"),
    ],
)
def test_what_is_not_known_to_change_nothing_needs_more_than_reading(method, path, needed):
    assert scope_of(method, path) == needed


def test_a_server_without_keys_is_open_until_there_is_one(make_house, draw_shapes):
    house = make_house()
    house.serve()
    with httpx.Client(base_url=house.url, trust_env=False, timeout=30) as anyone:
        assert anyone.get("/v1/jobs").status_code == 200
        unknown = {"Authorization": f"Bearer {new_key()}"}
        assert anyone.get("/v1/jobs", headers=unknown).status_code == 401
        db = Database(house.database_url)
        made = keys.create_key(db, sha256="ab" * 32, scope=Scope.READ, owner="zoo")
        assert anyone.get("/v1/jobs").status_code == 401
        keys.revoke_key(db, made.id)
        assert anyone.get("/v1/jobs").status_code == 401
        db.dispose()
        with sqlite3.connect(house.home / "thaw.db") as file:
            file.execute("DROP TABLE api_keys")
        file.close()
        gone = anyone.get("/v1/jobs")
        assert (gone.status_code, gone.headers["Retry-After"]) == (503, "5")
        assert anyone.get("/healthz").status_code == 200
