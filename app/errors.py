"""What the API answers when it refuses, and the one handler that renders all of it.

    ApiError
    ├── BadRequest        400  the body is no JSON
    ├── Unauthorized      401  a key is demanded, and there is none that is known here
    ├── Forbidden         403  the operator has not made it possible, or a foreign page asks for it
    ├── NotFound          404  there is no such thing
    ├── TimedOut          408  the client stopped in the middle of its request
    ├── Conflict          409  the thing's state does not allow it
    ├── TooLarge          413  the body is longer than it may be, or an archive has too much in it
    ├── UnsupportedType   415  the body is of a kind that this call does not take
    ├── RangeNotSatisfiable 416  a download is asked for from behind its end
    ├── Misdirected       421  the server does not go by the name that the request was sent to
    ├── Invalid           422  fields with problems; all of them in `details`
    ├── QuotaReached      429  the owner has as much as one may have
    ├── TooManyRequests   429  the caller asks too often
    ├── HeadTooLarge      431  the request line and the headers are longer than they may be
    ├── Unavailable       503  the database, the disk or a process beside the server does not answer
    └── NoSpace           507  the disk is full

Every answer has the shape `{"error": {"message", "type", "param", "code", "details"}}`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from app.aside import AsideError
from app.store.errors import (
    AlreadyRetried,
    CheckpointGone,
    ExperimentEnded,
    ExperimentNotEnded,
    ExperimentNotFound,
    IdempotencyConflict,
    JobNotFound,
    NotEnded,
    NotMigrated,
    NotRetryable,
    NotStorable,
    StillBranched,
    StoreError,
    StoreUnavailable,
    TooManyWaiting,
    TransitionRefused,
    UnknownCursor,
)
from finetune.spec.problems import Problem

METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
RETRY_SECONDS = 5  # after which to ask again what cannot be answered now


class ApiError(Exception):
    """A refusal with its HTTP status."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.body = error_body(message, self.kind, code or self.code, param, details)
        self.headers = dict(headers or {})


class BadRequest(ApiError):
    """The request is not of the form that HTTP or JSON asks for."""

    status, kind, code = 400, "invalid_request_error", "bad_request"


class Unauthorized(ApiError):
    """A key is demanded, and there is none that is known here."""

    status, kind, code = 401, "invalid_request_error", "key_missing"


class Forbidden(ApiError):
    """The operator has not made it possible, or a page of another origin asks for it."""

    status, kind, code = 403, "invalid_request_error", "forbidden"


class NotFound(ApiError):
    """There is no such thing."""

    status, kind, code = 404, "invalid_request_error", "not_found"


class TimedOut(ApiError):
    """The client stopped in the middle of its request."""

    status, kind, code = 408, "invalid_request_error", "timed_out"


class Conflict(ApiError):
    """The state of the thing does not allow it."""

    status, kind, code = 409, "invalid_request_error", "conflict"


class TooLarge(ApiError):
    """The body is longer than it may be."""

    status, kind, code = 413, "invalid_request_error", "too_large"


class UnsupportedType(ApiError):
    """The body is of a kind that this call does not take."""

    status, kind, code = 415, "invalid_request_error", "unsupported_media_type"


class RangeNotSatisfiable(ApiError):
    """A download is asked for from behind its end."""

    status, kind, code = 416, "invalid_request_error", "range_not_satisfiable"


class Misdirected(ApiError):
    """The server does not go by the name that the request was sent to."""

    status, kind, code = 421, "invalid_request_error", "unknown_host"


class Invalid(ApiError):
    """Fields with problems. The message and `param` are the first one's, `details` has all."""

    status, kind, code = 422, "invalid_request_error", "invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        message = f"{first.param}: {first.message}" if first.param else first.message
        super().__init__(message, param=first.param, code=first.code, details=problems)


class QuotaReached(ApiError):
    """The owner has as much as one may have."""

    status, kind, code = 429, "invalid_request_error", "quota_jobs"


class TooManyRequests(ApiError):
    """The caller asks too often. `seconds` are those after which the next request is answered."""

    status, kind, code = 429, "invalid_request_error", "too_many_requests"

    def __init__(self, seconds: int) -> None:
        message = f"too many requests: ask again in {seconds} s, and less often (THAW_REQUESTS_PER_SECOND)"
        super().__init__(message, headers={"Retry-After": str(seconds)})


class HeadTooLarge(ApiError):
    """The request line and the headers are longer than they may be."""

    status, kind, code = 431, "invalid_request_error", "head_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"the request line and the headers together have at most {most:,} bytes")


class Unavailable(ApiError):
    """Something that the server needs does not answer; trying again may help."""

    status, kind, code = 503, "server_error", "unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": str(RETRY_SECONDS)})


class NoSpace(ApiError):
    """The disk is full."""

    status, kind, code = 507, "server_error", "disk_full"


STORE_ERRORS: dict[type[StoreError], type[ApiError]] = {
    JobNotFound: NotFound,
    ExperimentNotFound: NotFound,
    IdempotencyConflict: Conflict,
    TransitionRefused: Conflict,
    NotEnded: Conflict,
    ExperimentEnded: Conflict,
    ExperimentNotEnded: Conflict,
    NotRetryable: Conflict,
    AlreadyRetried: Conflict,
    CheckpointGone: NotFound,
    StillBranched: Conflict,
    TooManyWaiting: QuotaReached,
    NotStorable: BadRequest,
    StoreUnavailable: Unavailable,
    NotMigrated: Unavailable,
}


def error_body(
    message: str, kind: str, code: str, param: str | None = None, details: Sequence[Problem] = ()
) -> dict[str, Any]:
    """The one shape of all refusals."""
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": param,
            "code": code,
            "details": [{"param": p.param, "message": p.message, "code": p.code} for p in details],
        }
    }


def render(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A refusal as an answer. ASCII alone: a request can hold characters that UTF-8 has no bytes for."""
    return Response(json.dumps(body), status, headers=dict(headers or {}), media_type="application/json")


def answer_of(error: ApiError) -> Response:
    """A refusal as an answer, with its own headers."""
    return render(error.status, error.body, error.headers)


def install(app: FastAPI) -> None:
    """Makes every refusal of the application one of the shape."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return answer_of(error)

    @app.exception_handler(ClientDisconnect)
    async def broken_off(request: Request, error: ClientDisconnect) -> Response:
        return answer_of(BadRequest("the connection broke before all of the request was here"))

    @app.exception_handler(StoreError)
    async def refused_by_store(request: Request, error: StoreError) -> Response:
        if isinstance(error, UnknownCursor):
            translated: ApiError = Invalid([Problem("after", str(error), "unknown_cursor")])
        else:
            translated = STORE_ERRORS.get(type(error), ApiError)(str(error))
        return answer_of(translated)

    @app.exception_handler(AsideError)
    async def no_answer_now(request: Request, error: AsideError) -> Response:
        return answer_of(Unavailable(f"{error}; try again"))

    @app.exception_handler(RequestValidationError)
    async def invalid_parameters(request: Request, error: RequestValidationError) -> Response:
        return await refused(request, Invalid([_parameter_problem(e) for e in error.errors()]))

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        message = {
            404: "there is nothing at this address",
            405: "this address does not take this method",
        }.get(error.status_code, str(error.detail))
        body = error_body(message, "invalid_request_error", code)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
        return render(error.status_code, body, headers)


def _methods(request: Request) -> Iterator[str]:
    """The methods that an address takes: of all its routes, each of which knows its own alone."""
    # `/v1/jobs/plan` is a call of its own, though the routes of a job would take it for a job named plan.
    own = request.app.openapi()["paths"].get(request.scope["path"])
    for method in METHODS:
        scope = {**request.scope, "method": method}
        matched = any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
        if matched and (own is None or method.lower() in own):
            yield method


def _parameter_problem(error: Mapping[str, Any]) -> Problem:
    where = [str(part) for part in error["loc"] if part not in ("query", "path", "header", "body")]
    message = str(error["msg"]).replace("Input should", "should")
    return Problem(".".join(where) or None, message, str(error["type"]))
