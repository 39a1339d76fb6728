"""Uploads of datasets: a zip archive comes to disk, is unpacked beside the datasets, and put among them."""

import asyncio
import errno
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.entries import ArchiveInvalid, ArchiveTooLarge, Limits
from app.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NoSpace,
    TooLarge,
    Unavailable,
)
from app.rights import Rights
from app.settings import Settings
from app.staging import NameTaken, Staging, claim_name
from app.unpacking import GivenUp, unpack
from finetune.spec import Problem

log = structlog.get_logger()

BUFFER = 2**20

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", re.ASCII)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


async def upload(
    settings: Settings,
    rights: Rights,
    name: str,
    length: int | None,
    body: AsyncIterator[bytes],
    replace: bool,
) -> bool:
    """Takes a dataset in. Whatever it raises, the data root holds what it held before.

    Args:
        settings: where to, and the limits.
        rights: what the caller may.
        name: the dataset's.
        length: how many bytes the client says that it will send, if it says so.
        body: the archive.
        replace: whether a dataset that has the name is to go.

    Returns:
        Whether there was one.

    Raises:
        ApiError: the name, the archive or the disk does not allow it.
    """
    with _refusals():
        _check_request(settings, name, length)
        await run_in_threadpool(rights.check_length, name, length)
        staging = await run_in_threadpool(claim_name, settings.data_dir, name, True)
        try:
            await run_in_threadpool(rights.check_name, staging.target, replace)
            await _receive(body, staging.archive, settings.upload_bytes)
        except asyncio.CancelledError:  # the server ends, and will wait for no thread
            staging.close()
            raise
        except BaseException:
            await run_in_threadpool(staging.close)
            raise
        given_up = threading.Event()
        try:
            return await run_in_threadpool(_take_in, staging, settings, rights, replace, given_up)
        except asyncio.CancelledError:  # the server ends; the thread goes on until it sees this
            given_up.set()
            raise


def _check_request(settings: Settings, name: str, length: int | None) -> None:
    if settings.upload_bytes == 0:
        raise Forbidden("this server takes no uploads: THAW_UPLOAD_BYTES is 0", code="uploads_off")
    if not _NAME.fullmatch(name):
        message = "has 1 to 100 letters (A to Z), digits, dots, dashes and underscores, no dot or dash first"
        raise Invalid([Problem("name", message, "dataset_name")])
    if length is not None and length > settings.upload_bytes:
        raise _too_long(settings.upload_bytes)


def _take_in(
    staging: Staging, settings: Settings, rights: Rights, replace: bool, given_up: threading.Event
) -> bool:
    """What is done once the archive is there, in a thread: it takes long, and waits for the disk."""
    limits = Limits(settings.upload_bytes, settings.upload_files)
    try:
        size = unpack(staging.archive, staging.new, limits, given_up.is_set)
        staging.archive.unlink()
        with rights.noted(staging.target, size):
            return staging.put(replace)
    finally:
        staging.close()


async def _receive(body: AsyncIterator[bytes], file: Path, most: int) -> None:
    """Writes what the client sends, a piece at a time."""
    received, buffer = 0, bytearray()
    with await run_in_threadpool(file.open, "xb", 0) as out:
        async for chunk in body:
            received += len(chunk)
            if received > most:
                raise _too_long(most)
            buffer += chunk
            if len(buffer) >= BUFFER:
                await run_in_threadpool(_write, out, bytes(buffer))
                buffer.clear()
        await run_in_threadpool(_write, out, bytes(buffer))


def _write(out: BinaryIO, data: bytes) -> None:
    while data:  # an unbuffered file may take a part of it
        data = data[out.write(data) :]


def _too_long(most: int) -> TooLarge:
    return TooLarge(f"an uploaded archive has at most {most:,} bytes on this server (THAW_UPLOAD_BYTES)")


@contextmanager
def _refusals() -> Iterator[None]:
    """What the API answers where an upload cannot be taken in.

    The connection ends with a refusal: a client that is still sending sees that it need not go on.
    """
    try:
        yield
    except Exception as error:
        refusal = error if isinstance(error, ApiError) else _translated(error)
        if refusal is None:
            raise
        refusal.headers["Connection"] = "close"
        raise refusal from None


def _translated(error: Exception) -> ApiError | None:
    match error:
        case NameTaken():
            return Conflict(str(error), param="name", code="dataset_exists")
        case ArchiveInvalid():
            return Invalid([Problem(None, str(error), "archive_invalid")])
        case ArchiveTooLarge():
            return TooLarge(str(error), code="archive_too_large")
        case ClientDisconnect():
            return BadRequest("the connection broke before all of the archive was here")
        case GivenUp():
            return BadRequest("the upload was given up: the server ends")
        case OSError():
            return _disk_refusal(error)
    return None


def _disk_refusal(error: OSError) -> ApiError:
    if error.errno in _NO_SPACE:
        return NoSpace("there is no room for the dataset on the server's disk")
    if error.errno in _NOT_OURS:
        return Forbidden(
            f"the server cannot write to its data folder ({error.strerror}): uploads need that",
            code="data_not_writable",
        )
    log.error("an upload broke", error=str(error))
    return Unavailable(f"the server's data folder does not work: {error.strerror}")
