"""Request bodies: strict JSON, read whole or refused."""

import json
from typing import Any, NoReturn

from fastapi import Request

from app.errors import BadRequest, TooLarge

LARGEST = 1_000_000  # bytes; the longest sensible spec has a few thousand


async def read_json(request: Request) -> Any:
    """The body's JSON.

    Raises:
        BadRequest: it is no JSON: not UTF-8, NaN or Infinity in it, nested without end, digits without end.
        TooLarge: it is too long.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST:
            raise TooLarge(f"the body is longer than {LARGEST:,} bytes")
        chunks.append(chunk)
    try:
        return json.loads(b"".join(chunks).decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"the body is not JSON: {reason}", code="not_json") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
