"""uvicorn's HTTP with limits: by itself it waits for a client for ever, and reads heads of any size.

What is refused here never becomes a request of the application; its answer is written here.
"""

import asyncio
from asyncio.events import TimerHandle
from typing import ClassVar
from uuid import uuid4

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import ApiError, BadRequest, HeadTooLarge, TimedOut, Unavailable, answer_of
from app.requests import ALWAYS, REQUEST_ID

log = structlog.get_logger()

LARGEST_HEAD = 64 * 1024  # bytes of the request line and all headers
MOST_CONNECTIONS = 1000
# Times the patience: what a slow client takes is seen when a good part of the system's buffer is free.
PATIENCE_WRITING = 5
LINGER_SECONDS = 5.0  # for a client that is refused to stop sending and read why


class GuardedProtocol(HttpToolsProtocol):
    """A connection. `patience` is in seconds; `protocol` makes a class with another one."""

    patience: ClassVar[float] = 60.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Takes a connection, or refuses it where there are too many."""
        super().connection_made(transport)
        self._unheeded = 0  # bytes since the parser last understood something: a head, or a piece of a body
        self._refused = False
        self._reading: TimerHandle | None = None
        self._writing: TimerHandle | None = None
        self._await_request()
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(Unavailable("the server has too many connections open; try again"))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all waiting."""
        _cancel(self._reading)
        _cancel(self._writing)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came, and refuses what goes on and on without being a request."""
        if self._refused:
            return
        self._unheeded += len(data)
        super().data_received(data)
        if self._unheeded > LARGEST_HEAD:
            self._refuse(HeadTooLarge(LARGEST_HEAD))

    def on_headers_complete(self) -> None:
        """The head is there: the request begins, unless the head is too large."""
        self._unheeded = 0
        if self._refused:
            return
        _cancel(self._reading)
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > LARGEST_HEAD:
            self._refuse(HeadTooLarge(LARGEST_HEAD))
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._unheeded = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a body."""
        self._unheeded = 0
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Waits for the next request, unless it is there."""
        waits_already = bool(self.pipeline)
        super().on_response_complete()
        if not waits_already:
            self._await_request()

    def pause_writing(self) -> None:
        """The client takes in less than there is: waits for it, but not for ever."""
        super().pause_writing()
        self._writing = self.loop.call_later(PATIENCE_WRITING * self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes in more."""
        _cancel(self._writing)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuses what the parser cannot read."""
        self._refuse(BadRequest("what was sent is not HTTP as it should be", code="not_http"))

    def _await_request(self) -> None:
        _cancel(self._reading)
        self._reading = self.loop.call_later(self.patience, self._give_up)

    def _give_up(self) -> None:
        """The time for the next request, or for the last one's answer to be taken in, is over."""
        if self._unheeded and not self.transport.is_closing():
            self._refuse(TimedOut(f"the head of the request did not arrive within {self.patience:g} seconds"))
        else:
            self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Answers and ends the connection. Where an answer is under way, the end is all that can be said."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:  # the application learns that nobody listens
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(_written(error))
        # A socket closed with something unread takes the answer back: what comes now is read and dropped.
        self.transport.write_eof()
        _cancel(self._reading)
        self._reading = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def protocol(seconds: float) -> type[GuardedProtocol]:
    """The class of connections whose clients have so long."""

    class Connection(GuardedProtocol):
        patience = seconds

    return Connection


def _written(error: ApiError) -> bytes:
    """A refusal as it is sent, with an id of its own, under which the log has it."""
    request_id = uuid4().hex
    log.info("refused", request_id=request_id, status=error.status, reason=str(error))
    answer = answer_of(error)
    answer.headers.update({**ALWAYS, REQUEST_ID: request_id, "Connection": "close"})
    lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
    return STATUS_LINE[error.status] + b"".join(lines) + b"\r\n" + bytes(answer.body)


def _cancel(timer: TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
