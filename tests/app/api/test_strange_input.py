"""What no sensible client sends, over real sockets: refused in the one shape, never with a 500."""

import json
import re
import socket
import sys

import pytest

from tests.raw import request, talk

STRICT = pytest.mark.promise(
    "Strange JSON, text and addresses are answered with a 4xx in the one shape, never 5xx"
)

ADDRESSES = ("/v1/jobs", "/v1/jobs/plan", "/v1/jobs/find-lr", "/v1/experiments")
NOT_JSON = {
    "nothing": b"",
    "NaN": b'{"seed": NaN}',
    "Infinity": b'{"seed": Infinity}',
    "minus Infinity": b"[-Infinity]",
    "5,000 digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "5,000 digits at the top": b"-" + b"9" * 5000,
    "invalid UTF-8": b'{"name": "\xff\xfe"}',
    "an overlong NUL": b'{"name": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-32": '{"name": "x"}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "deep lists": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a deep list in a field": b'{"metadata": ' + b"[" * 100 + b"]" * 100 + b"}",
    "a control in a text": b'{"name": "a\nb"}',
    "a comma too many": b'{"seed": 1,}',
    "two values": b"{} {}",
    "a NUL": b"\x00",
    "a number like 01": b'{"seed": 01}',
    "a form": b"name=x&seed=1",
}
INVALID = {
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a lone surrogate in a key": b'{"\\udfff": 1}',
    "a lone surrogate deep in": b'{"spec": {"metadata": {"a": ["\\udc00"]}}}',
    "a NUL in a name": b'{"name": "a\\u0000b"}',
    "a NUL in a key": b'{"a\\u0000b": 1}',
    "2^63": b'{"seed": 9223372036854775808, "seeds": [9223372036854775808]}',
    "-2^70": b'{"seed": -1180591620717411303424}',
    "1e999": b'{"seed": 1e999}',
    "4,000 digits": b'{"seed": ' + b"9" * 4000 + b"}",
    "a number": b"3",
    "null": b"null",
    "a text": b'"spec"',
    "a list": b"[{}]",
    "a path that climbs": b'{"dataset": {"path": "../../etc/passwd"}}',
    "a path with a NUL": b'{"dataset": {"path": "a\\u0000b"}}',
    "markup": b'{"<script>alert(1)</script>": "\\u202e"}',
    "a line break": b'{"a\\r\\nSet-Cookie: b": 1}',
}


@STRICT
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_a_bad_request_everywhere(house, tried, body):
    for address in ADDRESSES:
        answer = talk(house.port, request("POST", address, body=body))
        assert (answer.status, answer.error["code"]) == (400, "not_json"), address
        tried(1)


@STRICT
@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_json_that_says_what_cannot_be_is_invalid_everywhere(house, tried, body):
    for address in ADDRESSES:
        answer = talk(house.port, request("POST", address, body=body))
        assert answer.status == 422, (address, answer)
        assert answer.error["details"]
        assert len(answer.body) < 20_000  # a huge number, or a long text, is not sent back
        tried(1)


STRANGE = (
    "%00",
    "nul%00nul",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "\\..\\..",
    "%ff%fe",
    "%ed%a0%80",
    "%0d%0aX-Evil:%201",
    "%e2%80%ae",
    "<script>",
    "%3Cscript%3E",
    "%25%30",
    "'",
    '"',
    "*",
    "%F0%9F%90%9C",
    "a" * 3000,
    "9" * 5000,
)
PATHS = (
    ("GET", "/v1/jobs/{}"),
    ("GET", "/v1/jobs/{}/metrics"),
    ("GET", "/v1/jobs/{}/events"),
    ("GET", "/v1/jobs/{}/checkpoints"),
    ("GET", "/v1/jobs/{}/checkpoints/best/download"),
    ("GET", "/v1/jobs/{}/report"),
    ("GET", "/v1/jobs/{}/report/predictions"),
    ("POST", "/v1/jobs/{}/cancel"),
    ("POST", "/v1/jobs/{}/pause"),
    ("POST", "/v1/jobs/{}/resume"),
    ("POST", "/v1/jobs/{}/retry"),
    ("DELETE", "/v1/jobs/{}"),
    ("GET", "/v1/experiments/{}"),
    ("POST", "/v1/experiments/{}/cancel"),
    ("DELETE", "/v1/experiments/{}"),
    ("GET", "/v1/datasets/{}"),
    ("PUT", "/v1/datasets/{}"),
    ("GET", "/assets/x/{}"),
    ("GET", "/{}"),
)


@STRICT
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_strange_names_in_the_address_are_not_there(house, tried, method, path):
    for name in STRANGE:
        answer = talk(house.port, request(method, path.format(name)))
        assert 400 <= answer.status < 500, (name, answer)
        assert answer.error["message"]
        assert "x-evil" not in answer.headers
        assert b"root:" not in answer.body
        tried(1)


@STRICT
@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/v1/jobs?limit={}", "limit"),
        ("/v1/jobs?status={}", "status"),
        ("/v1/jobs?after={}", "after"),
        ("/v1/experiments?limit={}", "limit"),
        ("/v1/experiments?after={}", "after"),
        ("/v1/jobs/{job}/metrics?after_epoch={}", "after_epoch"),
        ("/v1/jobs/{job}/events?after={}", "after"),
        ("/v1/jobs/{job}/events?limit={}", "limit"),
        ("/v1/jobs/{job}/checkpoints/last/download?format={}", "format"),
        ("/v1/datasets/shapes?wait={}", "wait"),
    ],
)
def test_strange_values_in_the_query_are_invalid(house, post, tried, address, name):
    job = post()["id"]
    values = (
        "",
        "%00",
        "NaN",
        "inf",
        "-1",
        "1e999",
        "9" * 5000,
        str(2**63),
        "%ff",
        "%ed%a0%80",
        "true",
        "[]",
        "%0d%0a",
    )
    for value in values:
        answer = talk(house.port, request("GET", address.replace("{job}", job).format(value)))
        if (name, value) in (("status", ""), ("format", ""), ("wait", "inf"), ("after", "")):
            assert answer.status < 500
        else:
            assert answer.status == 422, (value, answer)
            assert answer.error["param"] == name
        assert len(answer.body) < 20_000
        tried(1)


@STRICT
def test_strange_filters_by_metadata_find_nothing_or_are_invalid(house, tried):
    for key in (
        "",
        "a%00b",
        "%0d%0a",
        "%e2%80%ae",
        "<script>",
        "%ff",
        "'%20OR%201%3D1--",
        '"',
        "$.a",
        "a" * 65,
    ):
        for value in ("", "%00", "%ff", "9" * 5000, "' OR 1=1--"):
            answer = talk(house.port, request("GET", f"/v1/jobs?metadata[{key}]={value}".replace(" ", "%20")))
            assert answer.status in (200, 422), (key, value, answer)
            if answer.status == 200:
                assert json.loads(answer.body)["data"] == [], (key, value)
            tried(1)


@STRICT
@pytest.mark.parametrize(
    "header",
    [
        "Idempotency-Key: \xff\xfe",
        "Idempotency-Key: <script>",
        'If-None-Match: \xff, "", W/, *x',
        "Range: bytes=99999999999999999999999-",
        "Range: bytes=-",
        "Accept: \xff",
        "Accept-Encoding: \xff",
        "Last-Event-ID: 99999999999999999999",
        "Last-Event-ID: \xb2",
        "Content-Type: \xff",
        "Cookie: \xff=\xff",
        "X-Forwarded-For: \xff",
        "X-Request-ID: forged",
    ],
)
def test_strange_headers_break_nothing(house, post, spec, tried, header):
    job = post()["id"]
    body = json.dumps(spec()).encode()
    for sent in (
        request("GET", f"/v1/jobs/{job}", header),
        request("GET", f"/v1/jobs/{job}/events", header),
        request("GET", f"/v1/jobs/{job}/checkpoints/best/download", header),
        request("POST", "/v1/jobs", header, body=body),
        request("POST", f"/v1/jobs/{job}/predict", header, body=b"x"),
    ):
        answer = talk(house.port, sent)
        assert 200 <= answer.status < 500, answer
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        tried(1)


# A name may be any text: what shows it has to show it safely.
NAMES = {
    "a line break": "ants\r\nSet-Cookie: bees=1",
    "an escape sequence": "ants\x1b[2J\x1b]0;owned\x07bees",
    "turned letters": "ants \u202egpj.seeb\u2066",
    "markup": "<script>alert('ants')</script><img src=x onerror=alert(1)>",
    "a way out": "../../etc/passwd",
    "quotes": '"; filename="evil.exe"; x=\'',
    "Markdown": "![x](http://evil.example/x.png) `a` | [b](javascript:alert(1))",
    "a template": "{{ 777 * 777 }}{% raw %}",
    "other letters": "Ameisen für 蟻 \U0001f41c",
}
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SHOWN = pytest.mark.promise("A name of any text is kept as it is and shown without steering what shows it")


@SHOWN
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_kept_and_shown_safely(house, api, hold, write_epoch, name):
    held = hold(name=name, metadata={"team": name})
    write_epoch(held, 1)
    address = f"/v1/jobs/{held.job_id}"
    job = api.get(address)
    assert (job.json()["name"], job.json()["metadata"]) == (name, {"team": name})
    download = talk(house.port, request("GET", f"{address}/checkpoints/best/download"))
    assert (download.status, download.body) == (200, b"weights")
    assert re.fullmatch(
        rf'attachment; filename="{held.job_id}-epoch-1\.safetensors"', download.headers["content-disposition"]
    )
    assert "set-cookie" not in download.headers
    for page in (api.get(f"/jobs/{held.job_id}"), api.get("/")):  # whose modules show it, see tests/page
        assert name not in page.text
    found = api.get("/v1/jobs", params={"metadata[team]": name, "limit": 1}).json()["data"]
    assert [one["id"] for one in found] == [held.job_id]


@SHOWN
def test_no_name_steers_a_terminal(house, post, make_experiment, api, tried):
    jobs = [post(name=name)["id"] for name in NAMES.values()]
    turned = NAMES["turned letters"] + NAMES["an escape sequence"]
    experiment = api.post("/v1/experiments", json=make_experiment(name=turned)).json()["id"]
    commands = (
        ["jobs", "--limit", str(len(NAMES))],
        *(["status", job] for job in jobs[:3]),
        ["events", jobs[1]],
        ["experiments"],
        ["experiment", experiment],
    )
    for command in commands:
        shown = house.run(sys.executable, "-m", "client", *command)
        assert shown.returncode == 0, shown.stderr
        for line in (shown.stdout + shown.stderr).splitlines():
            assert not STEERS.search(line), line
        tried(1)


KEY = "thaw_" + "Zk9" * 15


@pytest.mark.promise("A key that a request carries is in no log")
def test_no_key_is_in_a_log_whatever_the_request_carries_it_in(house, post, spec, tried):
    job = post()["id"]
    for sent in (
        request("GET", "/v1/jobs", f"Authorization: Bearer {KEY}"),
        request("GET", f"/v1/jobs?api_key={KEY}&limit=x"),
        request("GET", f"/v1/nowhere?key={KEY}", f"Cookie: key={KEY}"),
        request("GET", f"/v1/jobs/{KEY}"),
        request("DELETE", f"/v1/jobs/{job}?key={KEY}", f"X-API-Key: {KEY}"),
        request(
            "POST", f"/v1/jobs?key={KEY}", f"Authorization: Bearer {KEY}", body=json.dumps(spec()).encode()
        ),
        request("POST", "/v1/jobs", f"Authorization: Bearer {KEY}", body=b"{"),
        request("PUT", f"/v1/datasets/{KEY}?x={KEY}", body=b"no archive"),
        request("GET", "/v1/jobs", f"Authorization: Bearer {KEY}", host="evil.example"),
        f"GET /?{KEY} HTTP/9.9\r\nAuthorization: {KEY}\r\n\r\n".encode(),
        request("GET", "/", f"Authorization: Bearer {KEY}{'x' * 70_000}"),
    ):
        assert talk(house.port, sent).status
        tried(1)
    assert KEY not in house.log("server")
    assert KEY[5:30] not in house.log("server")
    assert "DELETE" in house.log("server")


@pytest.mark.promise("A request writes no line into the log but its own")
def test_an_address_forges_no_line_in_the_log(house):
    forged = "/v1/jobs/x%0a2026-01-01%20[info]%20forged%1b[2J%e2%80%ae"
    assert talk(house.port, request("DELETE", forged)).status == 404
    lines = [line for line in house.log("server").splitlines() if "forged" in line]
    assert len(lines) == 1
    assert "DELETE" in lines[0]
    assert not STEERS.search(re.sub("\x1b\\[[0-9;]*m", "", lines[0]))


def test_a_connection_that_breaks_in_the_middle_of_a_body_is_no_error_of_the_server(house, until):
    before = house.log("server").count("Traceback")
    with socket.create_connection(("127.0.0.1", house.port)) as connection:
        connection.sendall(request("POST", "/v1/jobs?broken-off", "Content-Length: 500", body=b"{"))
    until(lambda: "400" in house.log("server").splitlines()[-1], 10, "the broken request is logged")
    assert house.log("server").count("Traceback") == before
