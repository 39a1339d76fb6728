"""Downloading a file that must arrive whole: ranges, resuming, and a checksum at the end."""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import httpx

from client.answers import LATER, check
from client.errors import AnswerUnreadable, DownloadBroken, DownloadCorrupt

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be (None: the server does not say)."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each retry of a connection that breaks without having brought anything new."""

MAKING_SECONDS = 1200.0
"""That the server may take to make a file that is not there yet."""

PLAIN = {"Accept-Encoding": "identity"}
"""Ranges and the checksum are about the file's own bytes, so nothing on the way may compress them."""

FIRST_BYTE = {**PLAIN, "Range": "bytes=0-0"}


@dataclass(frozen=True)
class Served:
    """A version of the file on the server."""

    name: str
    sha256: str
    size: int | None


def download(
    http: httpx.Client,
    url: str,
    destination: Path,
    report: Report | None = None,
    pauses: Sequence[float] = PAUSES,
    patience: float | None = None,
) -> Path:
    """Downloads `url` to `destination`, or into it under the server's name where it is a folder.

    With `patience` the server may first have to make the file: its first answer may take so many seconds, and
    until then it may answer that it is not ready.

    The bytes go to `NAME.part`, which gets its own name once its SHA-256 is the one in the ETag. A part that
    is already there is continued.

    Returns:
        The file's path.

    Raises:
        DownloadBroken: when the connection breaks more often in a row than there are `pauses`.
        DownloadCorrupt: when the bytes have another SHA-256.
        Refused: when the server does not give the file.
    """
    served = _look(http, url) if patience is None else _look_patiently(http, url, patience)
    target = destination / served.name if destination.is_dir() else destination
    part = target.with_name(target.name + ".part")
    inherited = part.exists()
    served = _fill(http, url, part, served, report, pauses)
    actual = _sha256(part)
    if actual != served.sha256 and inherited:
        # The part was left by an earlier download, which may have been of another checkpoint.
        part.unlink()
        served = _fill(http, url, part, served, report, pauses)
        actual = _sha256(part)
    if actual != served.sha256:
        part.unlink()
        raise DownloadCorrupt(target, served.sha256, actual)
    part.replace(target)
    return target


def _look(http: httpx.Client, url: str) -> Served:
    """Asks for the first byte: its headers say all that has to be known before the first byte is written."""
    with http.stream("GET", url, headers=FIRST_BYTE) as response:
        if not response.is_success:
            response.read()
        check(response)
        return _served(response)


def _look_patiently(http: httpx.Client, url: str, patience: float) -> Served:
    """The same, of a file that the server makes meanwhile; asks again when it says that it is not ready."""
    deadline = time.monotonic() + patience
    while True:
        left = max(1.0, deadline - time.monotonic())
        with http.stream("GET", url, headers=FIRST_BYTE, timeout=left) as response:
            if response.is_success:
                return _served(response)
            response.read()
        pause = response.headers.get("Retry-After", "")
        later = response.status_code in LATER and pause.isdecimal()
        if not later or time.monotonic() + int(pause) > deadline:
            check(response)
        time.sleep(int(pause))


def _fill(
    http: httpx.Client, url: str, part: Path, served: Served, report: Report | None, pauses: Sequence[float]
) -> Served:
    """Fills `part` up to the file's size, over as many connections as that takes."""
    failures = 0
    have = _size(part)
    while served.size is None or have != served.size:
        before = have
        try:
            served = _receive(http, url, part, served, report)
            if served.size is None:
                return served
        except httpx.TransportError:
            pass  # counted below, as is an answer that was too short
        have = _size(part)
        if have == served.size:
            break
        failures = 1 if have > before else failures + 1
        if failures > len(pauses):
            raise DownloadBroken(part, have)
        time.sleep(pauses[failures - 1])
    return served


def _receive(http: httpx.Client, url: str, part: Path, served: Served, report: Report | None) -> Served:
    """Reads one answer into `part`: the rest of the same version, or all of a newer one."""
    have = _size(part)
    if served.size is not None and have > served.size:
        have = 0
    headers = dict(PLAIN)
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{served.sha256}"'}
    with http.stream("GET", url, headers=headers) as response:
        if not response.is_success:
            response.read()
        check(response)
        now = _served(response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            have = 0
        elif _start(response) != have or now.sha256 != served.sha256:
            raise AnswerUnreadable(url, f"asked for the bytes from {have} on, it sent others")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            _write(file, response, now, report)
    return now


def _write(file: BinaryIO, response: httpx.Response, served: Served, report: Report | None) -> None:
    for chunk in response.iter_raw():
        file.write(chunk)
        if report is not None:
            report(file.tell(), served.size)


def _served(response: httpx.Response) -> Served:
    sha256 = response.headers.get("ETag", "").removeprefix("W/").strip('"').lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise AnswerUnreadable(str(response.request.url), "its ETag is no SHA-256")
    total = response.headers.get("Content-Length")
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return Served(_file_name(response), sha256, int(total) if total and total.isdecimal() else None)


def _start(response: httpx.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _file_name(response: httpx.Response) -> str:
    """The name that the server gives the file, without any folder it may try to lead into."""
    header = response.headers.get("Content-Disposition", "")
    found = re.search(r'filename="([^"]*)"', header) or re.search(r"filename=([^;\s]+)", header)
    given = PureWindowsPath(PurePosixPath(found[1]).name).name.lstrip(".") if found else ""
    return given if given.isprintable() and given else "checkpoint.safetensors"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
