"""Files that are served, by the response alone: what happens between its making and its sending."""

import asyncio

import pytest
from starlette.requests import Request

from app.api.files import HeldFile, serve_file
from app.errors import NotFound

GONE = NotFound("it is gone")


def _request(method="GET", **headers):
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": named})


def _send(request, response):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    asyncio.run(response(request.scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.promise("A download that has begun ends whole, whatever is deleted meanwhile")
@pytest.mark.parametrize(
    ("headers", "status", "expected"), [({}, 200, b"weights"), ({"range": "bytes=2-"}, 206, b"ights")]
)
def test_a_file_that_is_deleted_before_it_is_sent_is_sent(tmp_path, headers, status, expected):
    file, request = tmp_path / "file", _request(**headers)
    file.write_bytes(b"weights")
    response = serve_file(request, file, "0" * 64, gone=GONE, filename="file")
    file.unlink()
    assert _send(request, response) == (status, expected)


def test_a_file_is_closed_once_it_is_sent(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    for method in ("GET", "HEAD"):
        request = _request(method)
        response = serve_file(request, file, "0" * 64, gone=GONE, filename="file")
        _send(request, response)
        assert isinstance(response, HeldFile)
        assert response._file.closed


def test_a_file_that_is_not_there_is_gone(tmp_path):
    with pytest.raises(NotFound, match="it is gone"):
        serve_file(_request(), tmp_path / "file", "0" * 64, gone=GONE, filename="file")
