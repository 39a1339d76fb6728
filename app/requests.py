"""Around every request: an id, a log line, and an answer in the one shape even where something broke.

The log has the address without its query, and no header: keys stand in both.
"""

import asyncio
import time
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.callers import CALLER, Caller
from app.errors import Unavailable, answer_of, error_body, render

log = structlog.get_logger()

REQUEST_ID = "X-Request-ID"
# On every answer: what is sent is what its type says, and a browser tells other sites nothing of it.
ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class RequestLog:
    """ASGI middleware. It is the outermost of ours, so that what it adds is on every answer."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._count = Counter(
            "thaw_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "thaw_http_request_seconds", "Seconds until the answer began.", ["route"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, and says so in the log and in the figures."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, begun, status, seconds = uuid4().hex, time.perf_counter(), 0, 0.0
        noted = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds, noted
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - begun
                MutableHeaders(scope=message).update({**ALWAYS, REQUEST_ID: request_id})
            await send(message)
            if message["type"] == "http.response.body" and not noted:  # so that nobody waits for the log
                noted = True
                self._observe(scope, status, seconds, request_id)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server ends, and has waited for this long enough
            if status:
                raise
            await answer_of(Unavailable("the server ends; try again"))(scope, receive, send_with_id)
        except Exception:
            log.exception("request broke", request_id=request_id, method=scope["method"], path=_path(scope))
            if status:  # the answer is under way: the broken connection is all that is left to say
                raise
            message = f"the server broke while it answered; its log has more under {request_id}"
            await render(500, error_body(message, "server_error", "internal"))(scope, receive, send_with_id)

    def _observe(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._count.labels(scope["method"], route, status).inc()
        self._seconds.labels(route).observe(seconds)
        if scope["method"] != "GET" or status >= 400:
            caller: Caller | None = scope.get(CALLER)
            log.info(
                "request",
                request_id=request_id,
                method=scope["method"],
                path=_path(scope),
                status=status,
                seconds=round(seconds, 4),
                key=caller.key if caller else None,
            )


def _path(scope: Scope) -> str:
    """As it was sent: what is percent-encoded stays so."""
    return bytes(scope.get("raw_path") or b"").decode("latin-1")
