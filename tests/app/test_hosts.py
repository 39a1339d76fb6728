import httpx
import pytest
from starlette.datastructures import Headers

from app.errors import ApiError, BadRequest, Forbidden, Misdirected
from app.hosts import check_host, check_origin
from tests.raw import request, talk

ALLOWED = ("thaw.example.org", "*.lab.example.org")
NAMES = pytest.mark.promise(
    "A request under a foreign name, or from a foreign page, changes and tells nothing"
)


def headers(**sent):
    return Headers({name.replace("_", "-"): value for name, value in sent.items()})


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("localhost", ("localhost", None)),
        ("LOCALHOST:8321", ("localhost", 8321)),
        ("localhost.:1", ("localhost", 1)),
        ("127.0.0.1:8321", ("127.0.0.1", 8321)),
        ("192.168.1.7", ("192.168.1.7", None)),
        ("[::1]:8321", ("::1", 8321)),
        ("thaw.example.org", ("thaw.example.org", None)),
        ("a.b.lab.example.org:80", ("a.b.lab.example.org", 80)),
    ],
)
def test_names_of_the_server_are_let_through(host, place):
    assert check_host(headers(host=host), ALLOWED) == place


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "example.org",
        "lab.example.org",
        "thaw.example.org.evil.example",
        "evilthaw.example.org",
        "xlab.example.org",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f000001",
    ],
)
def test_other_names_are_refused(host):
    with pytest.raises(Misdirected, match="THAW_ALLOWED_HOSTS"):
        check_host(headers(host=host), ALLOWED)


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "me@localhost", "localhost:x", "localhost:999999", "[::1", "a/b", "é"]
)
def test_what_is_no_name_is_a_bad_request(host):
    with pytest.raises(BadRequest):
        check_host(headers(host=host), ALLOWED)


def test_one_host_there_has_to_be():
    for raw in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        with pytest.raises(BadRequest):
            check_host(Headers(raw=raw), ALLOWED)


OWN = ("localhost", 8321)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"origin": "http://localhost:8321"},
        {"origin": "https://localhost:8321", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_programs_and_pages_of_its_own_may_change_things(sent):
    check_origin("POST", headers(**sent), OWN)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "sent",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost"},
        {"origin": "http://localhost.evil.example:8321"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "file://"},
        {"origin": "http://[::1"},
        {"origin": "http://localhost:99999999"},
        {"origin": "ftp://localhost:8321"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://localhost:8321", "sec_fetch_site": "cross-site"},
    ],
)
def test_foreign_pages_may_not(method, sent):
    with pytest.raises(Forbidden, match="another origin"):
        check_origin(method, headers(**sent), OWN)


def test_a_scheme_s_own_port_need_not_be_said():
    check_origin("POST", headers(origin="https://thaw.example.org"), ("thaw.example.org", None))
    check_origin("POST", headers(origin="https://thaw.example.org"), ("thaw.example.org", 443))
    with pytest.raises(ApiError):
        check_origin("POST", headers(origin="https://thaw.example.org"), ("thaw.example.org", 80))


@pytest.fixture(scope="module")
def named(make_house):
    house = make_house(allowed_hosts="Thaw.Example.org, *.lab")
    house.serve()
    return house


@NAMES
def test_the_server_answers_under_its_names_and_refuses_others_in_the_one_shape(named, tried):
    for host in ("localhost", f"127.0.0.1:{named.port}", "thaw.example.org", "gpu.lab:8321"):
        assert talk(named.port, request("GET", "/v1/jobs", host=host)).status == 200
    for method, target in (
        ("GET", "/v1/jobs"),
        ("GET", "/healthz"),
        ("POST", "/v1/jobs"),
        ("GET", "/nowhere"),
    ):
        answer = talk(named.port, request(method, target, host="evil.example"))
        assert (answer.status, answer.error["code"]) == (421, "unknown_host")
        assert b"evil.example" in answer.body
        tried(1)
    assert talk(named.port, request("GET", "/v1/jobs", host=None)).status == 400


@NAMES
def test_a_foreign_page_submits_uploads_and_deletes_nothing(named, tried):
    foreign = {"Origin": "https://evil.example"}
    with httpx.Client(base_url=named.url, trust_env=False, headers=foreign) as page:
        for method, target in (
            ("POST", "/v1/jobs"),
            ("POST", "/v1/jobs/plan"),
            ("POST", "/v1/experiments"),
            ("PUT", "/v1/datasets/zoo"),
            ("DELETE", "/v1/jobs/job_x"),
            ("POST", "/v1/jobs/job_x/cancel"),
        ):
            answer = page.request(method, target, content=b"{}")
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "foreign_origin"
            tried(1)
    assert list(named.data.iterdir()) == []


@NAMES
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000"])
def test_no_page_is_told_that_it_may_read_answers(named, origin):
    with httpx.Client(base_url=named.url, trust_env=False, headers={"Origin": origin}) as page:
        answers = [page.get("/v1/jobs"), page.get("/"), page.get("/healthz"), page.get("/nowhere")]
        wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answers.append(page.options("/v1/jobs", headers=wanted))
    assert answers[-1].status_code == 405
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
