"""HTTP by hand: what no client library would send, and what comes back."""

import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An answer, taken apart; `status` 0 is a connection that ended without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """The refusal, which has the one shape."""
        sent = json.loads(self.body)
        assert list(sent) == ["error"]
        assert set(sent["error"]) == {"message", "type", "param", "code", "details"}
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"]
        return sent["error"]


def request(
    method: str, target: str, *headers: str, body: bytes = b"", host: str | None = "localhost"
) -> bytes:
    """A request as bytes, after whose answer the connection ends."""
    own = [f"Host: {host}"] if host is not None else []
    if body and not any(header.lower().startswith(("content-length", "transfer-")) for header in headers):
        own.append(f"Content-Length: {len(body)}")
    lines = [f"{method} {target} HTTP/1.1", *own, "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def talk(port: int, *pieces: bytes, pause: float = 0.0, seconds: float = 30.0) -> Answer:
    """Sends pieces, with pauses between them, and reads until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        send(connection, pieces, pause)
        return parsed(read(connection, seconds))


def send(connection: socket.socket, pieces: Iterable[bytes], pause: float = 0.0) -> None:
    """Sends pieces as long as the server takes them."""
    with suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)


def read(connection: socket.socket, seconds: float = 30.0) -> bytes:
    """Everything until the server ends the connection, which it has to do within so long."""
    deadline, content = time.monotonic() + seconds, b""
    with suppress(ConnectionResetError):
        while True:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            piece = connection.recv(2**16)
            if not piece:
                break
            content += piece
    return content


def parsed(content: bytes) -> Answer:
    """An answer's parts."""
    if not content:
        return Answer(0, {}, b"")
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)
