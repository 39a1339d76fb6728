"""Answers that clients poll: with an ETag, and 304 where nothing changed."""

import hashlib

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

Passing = dict[str, set[str] | dict[str, set[str]]]  # fields, as pydantic's `exclude` takes them


def answer(request: Request, model: BaseModel, passing: Passing | None = None) -> Response:
    """The model as JSON, or 304 if the client has it already.

    Answers that differ in fields of `passing` alone, such as the time of a look, are the same to clients.
    """
    body = model.model_dump_json().encode()
    same = body if passing is None else model.model_dump_json(exclude=passing).encode()
    etag = f'"{hashlib.sha256(same).hexdigest()[:32]}"'
    headers = {"ETag": etag if passing is None else f"W/{etag}", "Cache-Control": "no-cache"}
    if matches(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def matches(request: Request, etag: str) -> bool:
    """Whether the client's `If-None-Match` names the tag, weakly or strongly, or anything (`*`)."""
    sent = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in sent.split(",")]
    return etag in tags or "*" in tags
