"""Answers that are files: ranges work, and the ETag is the SHA-256."""

import re
from pathlib import Path

from fastapi import Request
from starlette.responses import FileResponse, Response

from app.api.conditional import matches
from app.errors import NotFound, RangeNotSatisfiable

SINGLE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)


def answer_file(
    request: Request,
    path: Path,
    sha256: str,
    name: str,
    what: str,
    media_type: str = "application/octet-stream",
) -> Response:
    """The file, or the asked part of it, or 304 if the client has it already.

    Args:
        request: what is answered.
        path: the file.
        sha256: its SHA-256, in hexadecimal digits.
        name: what the client is told to call it.
        what: what it is, for the sentence that says that it is gone.
        media_type: what is in it.

    Raises:
        NotFound: the file is gone.
        RangeNotSatisfiable: the range begins behind its end.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise NotFound(f"the file of {what} is gone", param="checkpoint") from None
    etag = f'"{sha256}"'
    if matches(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    _check_range(request, etag, stat.st_size)
    return FileResponse(path, media_type=media_type, filename=name, headers={"ETag": etag}, stat_result=stat)


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
