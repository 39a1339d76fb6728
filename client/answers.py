"""From an HTTP answer to a model or an error."""

from http import HTTPStatus
from typing import TypeVar

import httpx
from pydantic import ValidationError

from client.errors import AnswerUnreadable, NotFound, Refused, Unavailable
from client.models import Answer, ErrorAnswer

LATER = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})
"""The answers that mean: ask again, in so many seconds as `Retry-After` says."""

Model = TypeVar("Model", bound=Answer)


def check(response: httpx.Response) -> None:
    """Raises what an answer other than 2xx and 304 means; its body must have been read.

    Raises:
        NotFound: for a 404 of Thaw's.
        Unavailable: for a 503, and a 429.
        Refused: for any other error of Thaw's.
        AnswerUnreadable: when the answer does not have the shape of Thaw's errors.
    """
    if response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED:
        return
    address = str(response.request.url)
    try:
        body = ErrorAnswer.model_validate_json(response.content).error
    except ValidationError:
        raise AnswerUnreadable(address, f"status {response.status_code} without Thaw's error body") from None
    if response.status_code in LATER:
        raise Unavailable(response.status_code, body, _seconds(response.headers.get("Retry-After", "")))
    kind = NotFound if response.status_code == HTTPStatus.NOT_FOUND else Refused
    raise kind(response.status_code, body)


def _seconds(retry_after: str) -> float:
    """The header may also be a date, which Thaw never sends: then, as without one, it is a second."""
    return float(retry_after) if retry_after.isdecimal() else 1.0


def parse(model: type[Model], response: httpx.Response) -> Model:
    """Reads a successful answer's body.

    Raises:
        AnswerUnreadable: when the body does not have the model's shape.
    """
    return parse_json(model, response.content, str(response.request.url))


def parse_json(model: type[Model], text: str | bytes, address: str) -> Model:
    """Reads `text`, which came from `address`; raises AnswerUnreadable where it is no `model`."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise AnswerUnreadable(address, reason) from None
