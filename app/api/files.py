"""Serving files that never change: ranges work, the ETag is the SHA-256, and 304 saves sending one again."""

import os
import re
from io import BufferedReader
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.conditional import matches
from app.errors import NotFound, RangeNotSatisfiable

SINGLE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


class HeldFile(FileResponse):
    """Sends a file that is open already: one that is deleted meanwhile is sent to its end all the same."""

    chunk_size = 2**18  # bytes; for each one a thread is waited for

    def __init__(self, file: BufferedReader, **options: Any) -> None:
        descriptor = file.fileno()
        super().__init__(f"/dev/fd/{descriptor}", stat_result=os.fstat(descriptor), **options)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it, and lets go of it."""
        with self._file:
            await super().__call__(scope, receive, send)


def serve_file(
    request: Request,
    path: Path,
    sha256: str,
    *,
    gone: NotFound,
    filename: str,
    media_type: str = "application/octet-stream",
    disposition: str = "attachment",
) -> Response:
    """The file, the part of it that is asked for, or 304.

    Raises:
        NotFound: `gone`, where there is no such file any more.
        RangeNotSatisfiable: the part begins behind the file's end.
    """
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    try:
        size = path.stat().st_size
        if matches(request, etag):
            return Response(status_code=304, headers=headers)
        _check_range(request, etag, size)
        return HeldFile(
            path.open("rb"),
            media_type=media_type,
            filename=filename,
            headers=headers,
            content_disposition_type=disposition,
        )
    except FileNotFoundError:
        raise gone from None


def _check_range(request: Request, etag: str, size: int) -> None:
    """Refuses a range behind the end; a range that is none, or several, is ignored, as HTTP allows.

    Raises:
        RangeNotSatisfiable: the range begins behind the file's end.
    """
    sent = request.headers.get("range")
    if sent is None or request.headers.get("if-range", etag) != etag:
        return
    match = SINGLE_RANGE.fullmatch(sent.replace(" ", ""))
    start, end, suffix = match.groups() if match else (None, None, None)
    if not match or (start and end and int(start) > int(end)):
        request.scope["headers"] = [(k, v) for k, v in request.scope["headers"] if k != b"range"]
    elif (start and int(start) >= size) or suffix == "0":
        headers = {"Content-Range": f"bytes */{size}"}
        raise RangeNotSatisfiable(f"the file has {size} bytes", headers=headers)
