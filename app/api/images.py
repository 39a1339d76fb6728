"""Images in a request: a body that is one, or the files of a form. Read within limits, or refused."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.errors import BadRequest, Invalid, TimedOut, TooLarge, UnsupportedType
from finetune.predictions import Sent
from finetune.spec import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_IMAGES = 64
TOGETHER = 4  # times the bytes of one image: what all of a request may have
SECONDS = 120.0  # for all of a body
FORM = b"multipart/form-data"
FIELD = b"images"
LONGEST_HEADER = 4096  # bytes
WANTED = "send one image as it is, as image/jpeg or the like, or several as files in multipart/form-data"
# The last is what curl says of `--data-binary`, and none is what some programs say.
PLAIN = (b"application/octet-stream", b"", b"application/x-www-form-urlencoded")


async def read_images(request: Request, most_bytes: int) -> tuple[Sent, ...]:
    """The images of a request, in their order. `most_bytes` is the limit of each.

    Raises:
        UnsupportedType: the body is neither.
        BadRequest: the form is none, or breaks off.
        Invalid: there is no image, or too many, or a field that is none.
        TooLarge: an image is too large, or all of them are; no more than that was read.
        TimedOut: the body did not arrive in time.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    try:
        with anyio.fail_after(SECONDS):
            if kind == FORM:
                images = await _read_form(request, options.get(b"boundary"), most_bytes)
            elif kind.startswith(b"image/") or kind in PLAIN:
                images = await _read_plain(request, most_bytes)
            else:
                raise UnsupportedType(WANTED)
    except TimeoutError as error:
        raise TimedOut(f"the body did not arrive within {SECONDS:g} seconds") from error
    except ClientDisconnect as error:
        raise BadRequest("the body breaks off") from error
    if not images:
        raise Invalid([Problem("images", "the request holds no image", "missing")])
    return tuple(images)


async def _read_plain(request: Request, most: int) -> list[Sent]:
    content = b"".join([chunk async for chunk in _chunks(request, most, "an image")])
    return [Sent(content)] if content else []


async def _read_form(request: Request, boundary: bytes | None, most: int) -> list[Sent]:
    if not boundary:
        raise BadRequest("the form's Content-Type names no boundary", code="not_a_form")
    form = _Form(most)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in _chunks(request, TOGETHER * most, "a request's images together"):
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest("the body is not the form that its Content-Type says", code="not_a_form") from error
    if not form.ended:
        raise BadRequest("the form breaks off before its last boundary", code="not_a_form")
    return form.images


async def _chunks(request: Request, most: int, what: str) -> AsyncIterator[bytes]:
    """The body as it arrives, at most that many bytes of it; one that says that it is longer is not read.

    Raises:
        TooLarge: it is longer.
    """
    refusal = TooLarge(f"{what} may have at most {most:,} bytes", param="images")
    if int(request.headers.get("content-length", 0)) > most:
        raise refusal
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise refusal
        yield chunk


class _Form:
    """Takes a form's parts from the parser as they arrive."""

    def __init__(self, most_bytes: int) -> None:
        self.images: list[Sent] = []
        self.ended = False
        self._most_bytes = most_bytes
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._file: str | None = None
        self._disposition = self._name = self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > LONGEST_HEADER:
            raise BadRequest("a header in the form is too long", code="not_a_form")

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        field, file = options.get(b"name", b""), options.get(b"filename")
        if file is None and field != FIELD:
            name = field.decode(errors="replace")
            message = "is no image; the form holds images alone, `checkpoint` and `top` go into the address"
            raise Invalid([Problem(name[:100] or None, message, "unknown_field")])
        if len(self.images) == MOST_IMAGES:
            raise Invalid([Problem("images", f"a request has at most {MOST_IMAGES} images", "too_many")])
        self._file = file.decode(errors="replace") if file else None

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self._most_bytes:
            message = f"{self._file or 'an image'} has more than {self._most_bytes:,} bytes"
            raise TooLarge(message, param=f"images.{len(self.images)}")
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        self.images.append(Sent(b"".join(self._chunks), self._file))

    def _all(self) -> None:
        self.ended = True
