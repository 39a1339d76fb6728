"""Request bodies: strict JSON, read whole or refused; and the keys that say which requests are the same."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Header, Request
from pydantic import StringConstraints

from app.errors import BadRequest, Invalid, TooLarge
from finetune.spec import Problem

LARGEST = 1_000_000  # bytes; the longest sensible spec has a few thousand
DEEPEST = 64  # levels; an experiment's variants have about ten


async def read_json(request: Request) -> Any:
    """The body's JSON.

    Raises:
        BadRequest: it is no JSON: not UTF-8, NaN or Infinity in it, nested without end, digits without end.
        TooLarge: it is too long.
        Invalid: a text in it is none.
    """
    too_large = TooLarge(f"the body is longer than {LARGEST:,} bytes")
    if int(request.headers.get("content-length", 0)) > LARGEST:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST:
            raise too_large
        chunks.append(chunk)
    try:
        body = json.loads(b"".join(chunks).decode(), parse_constant=_refuse)
        halves = list(_half_characters(body))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"the body is not JSON: {reason}", code="not_json") from error
    if halves:
        raise Invalid(
            [Problem(param, "holds half of a surrogate pair", "half_character") for param in halves]
        )
    return body


JsonBody = Annotated[Any, Depends(read_json)]
IdempotencyKey = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=255)] | None,
    Header(description="The same key and body give the same answer again, and nothing new."),
]


def digest_of(body: Any) -> str:
    """What two requests have in common that say the same."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _half_characters(node: Any, *path: str) -> Iterator[str]:
    """Fields with half of a surrogate pair: JSON can say it, and no database or file name can hold it.

    Raises:
        RecursionError: the node is nested deeper than any request of ours, and than code should have to go.
    """
    if len(path) > DEEPEST:
        raise RecursionError
    if isinstance(node, str):
        if any("\ud800" <= character <= "\udfff" for character in node):
            yield ".".join(path)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _half_characters(key, *path, key)
            yield from _half_characters(value, *path, key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _half_characters(value, *path, str(index))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
