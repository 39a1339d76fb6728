import json
import resource
import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from app.connections import LARGEST_HEAD, MOST_CONNECTIONS
from tests.raw import parsed, read, request, send, talk

PATIENCE = 1.0  # seconds; whoever gives a limit in these tests gives much more

SLOW = pytest.mark.promise(
    "A client that is slow, silent or without end is given up, and the others are answered"
)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def port(make_house):
    house = make_house(client_seconds=PATIENCE)
    house.serve()
    return house.port


@pytest.fixture(autouse=True)
def answers_others(port):
    """Whatever a test did, the server answers."""
    yield
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200


@SLOW
@pytest.mark.parametrize(
    "sent", [b"GET", b"GET /healthz HTTP/1.1\r\n", HEAD + b"X-A: b"], ids=["a", "b", "c"]
)
def test_a_head_that_does_not_come_is_given_up_and_said(port, sent):
    begun = time.monotonic()
    answer = talk(port, sent)
    assert (answer.status, answer.error["code"]) == (408, "timed_out")
    assert answer.headers["connection"] == "close"
    assert time.monotonic() - begun >= PATIENCE - 0.1


@SLOW
def test_a_head_that_comes_letter_by_letter_is_given_up(port):
    answer = talk(port, *(bytes([letter]) for letter in HEAD), pause=0.1)
    assert answer.status == 408


@SLOW
def test_a_connection_without_a_request_ends_even_if_it_sends_empty_lines(port):
    assert talk(port).status == 0
    assert talk(port, *[b"\r\n"] * 30, pause=0.1).status in (0, 408)


@SLOW
def test_a_connection_ends_that_was_answered_and_sends_empty_lines(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(HEAD + b"\r\n")
        send(connection, [b"\r\n"] * 40, 0.1)
        assert parsed(read(connection)).status == 200


@SLOW
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/jobs"),
        ("POST", "/v1/experiments"),
        ("PUT", "/v1/datasets/slow"),
        ("POST", "/v1/jobs/plan"),
    ],
)
def test_a_body_that_does_not_come_is_given_up_and_said(port, method, target):
    answer = talk(port, request(method, target, "Content-Length: 500", body=b"{"))
    assert (answer.status, answer.error["code"]) == (408, "timed_out")


@SLOW
def test_a_body_that_comes_byte_by_byte_is_given_up(port):
    head = request("POST", "/v1/jobs", "Content-Length: 500")
    begun = time.monotonic()
    answer = talk(port, head, *[b" "] * 100, pause=0.1)
    assert answer.status == 408
    assert time.monotonic() - begun < 30


def test_a_body_that_comes_slowly_but_steadily_is_taken(port):
    body = json.dumps({"colour": "x" * 20_000}).encode()
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    answer = talk(port, request("POST", "/v1/jobs", f"Content-Length: {len(body)}"), *pieces, pause=0.15)
    assert answer.status == 422


ENDLESS = {
    "a name": [b"GET /healthz HTTP/1.1\r\nX-", *[b"a" * 1000] * 200],
    "a value": [HEAD, b"X-A: ", *[b"a" * 1000] * 200],
    "headers": [HEAD, *[b"X-A: " + b"a" * 1000 + b"\r\n"] * 200],
    "short headers": [HEAD, *[b"X: y\r\n" * 200] * 200],
    "an address": [b"GET /", *[b"a" * 1000] * 200],
    "a chunk's extension": [
        request("POST", "/v1/jobs", "Transfer-Encoding: chunked"),
        b"1;",
        *[b"a" * 1000] * 200,
    ],
    "trailers": [
        request("POST", "/v1/jobs", "Transfer-Encoding: chunked"),
        b"1\r\n{\r\n0\r\n",
        *[b"X-A: " + b"a" * 1000 + b"\r\n"] * 200,
    ],
}


@SLOW
@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
def test_a_head_without_end_is_refused(port, pieces):
    answer = talk(port, *pieces)  # all of it is sent, and the answer can still be read
    assert (answer.status, answer.error["code"]) in ((431, "head_too_large"), (400, "not_http"))


@SLOW
def test_a_client_that_is_refused_can_send_all_and_then_read_why(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(HEAD + b"X-A: " + b"a" * 20_000_000)
        assert parsed(read(connection)).status == 431


def test_a_head_within_the_limit_is_read_and_one_beyond_it_is_refused(port):
    room = LARGEST_HEAD - 2000
    assert talk(port, request("GET", "/healthz", f"X-A: {'a' * room}")).status == 200
    answer = talk(port, request("GET", "/healthz", f"X-A: {'a' * (LARGEST_HEAD + 2000)}"))
    assert (answer.status, answer.error["code"]) == (431, "head_too_large")


GARBAGE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "another protocol": b"GET / SPDY/9\r\n\r\n",
    "a control in a header": HEAD + b"X-A: a\x00b\r\n\r\n",
    "two lengths": request("POST", "/v1/jobs", "Content-Length: 3", "Content-Length: 5", body=b"{}{}"),
    "a length that is none": request("POST", "/v1/jobs", "Content-Length: +3", body=b"{}{"),
    "a length of 5,000 digits": request("POST", "/v1/jobs", f"Content-Length: {'9' * 5000}", body=b"{}"),
    "a length and chunks": request("POST", "/v1/jobs", "Content-Length: 3", "Transfer-Encoding: chunked"),
    "a chunk that is none": request("POST", "/v1/jobs", "Transfer-Encoding: chunked", body=b"xyz\r\n"),
    "bytes in the address": b"GET /v1/jobs/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tab in the address": b"GET /v1/jobs/a\tb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "spaces in a name": HEAD + b"X A: b\r\n\r\n",
    "a folded header": HEAD + b"X-A: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_http_is_refused_in_the_one_shape(port, sent):
    answer = talk(port, sent)
    assert answer.status in (400, 404, 408, 505), answer
    assert answer.error["message"]


@SLOW
def test_a_client_that_takes_nothing_in_is_given_up(port, make_house):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", port))
        asked = request("GET", "/openapi.json").replace(b"Connection: close\r\n", b"")
        end = time.monotonic() + 60
        with pytest.raises(ConnectionError):  # noqa: PT012  # any of them may find out
            while time.monotonic() < end:  # answers without end, none of them read
                connection.sendall(asked * 5)
                time.sleep(0.05)


def test_a_connection_too_many_is_refused_until_there_is_room(port):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with ExitStack() as opened:
        for _ in range(MOST_CONNECTIONS + 50):
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        late = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        answer = parsed(read(late))
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_requests_one_after_another_on_a_connection_are_all_answered(port):
    """Also those that come before the one before is answered."""
    asked = request("GET", "/healthz").replace(b"Connection: close\r\n", b"")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(asked * 3 + request("GET", "/healthz"))
        assert read(connection).count(b"HTTP/1.1 200") == 4


@SLOW
def test_many_slow_clients_hold_up_nobody(port, tried):
    with ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for connection in slow:
            connection.sendall(HEAD)
        begun = time.monotonic()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert all(client.get("/v1/jobs").status_code == 200 for _ in range(20))
        assert time.monotonic() - begun < 20
        ended = []
        readers = [threading.Thread(target=lambda c=c: ended.append(parsed(read(c)).status)) for c in slow]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    tried(100)
    assert ended == [408] * 100
