"""A dataset on its way to the server: a folder, packed while it is sent, or a zip archive as it is."""

import stat
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from client.errors import SourceUnusable

JUNK = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})  # the server leaves it out, too
CHUNK = 2**20

Pieces = Generator[bytes, None, None]
Report = Callable[[int, int | None], None]
"""Called with the bytes that are sent and the bytes that will be."""


@dataclass(frozen=True)
class Packed:
    """What is sent. `length` is its size where that is known before it has been packed."""

    pieces: Pieces
    length: int | None


def pack(source: Path, report: Report | None = None) -> Packed:
    """Opens a folder or a zip archive for sending. Hidden files of a folder are left out.

    Raises:
        SourceUnusable: it is neither, or there is something in it that cannot be sent.
        OSError: something in it cannot be read.
    """
    if source.is_dir():
        root = source.resolve()
        files = dict(_files(root, root, (root,)))
        if not files:
            raise SourceUnusable(source, "has no files in it")
        return Packed(_zip(files, report), None)
    if not source.exists():
        raise SourceUnusable(source, "is not there")
    if not source.is_file() or not zipfile.is_zipfile(source):
        raise SourceUnusable(source, "is neither a folder nor a zip archive")
    size = source.stat().st_size
    return Packed(_read(source, size, report), size)


def _files(folder: Path, root: Path, within: tuple[Path, ...], name: str = "") -> Iterator[tuple[str, Path]]:
    """The files below a folder by their names in the archive; `within` are the real folders around."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in JUNK:
            continue
        inner = f"{name}/{entry.name}" if name else entry.name
        if not _is_text(inner):
            raise SourceUnusable(entry, "has a name that is no text (UTF-8)")
        real = _followed(entry, root) if entry.is_symlink() else folder.resolve() / entry.name
        if real.is_dir():
            if real in within:
                raise SourceUnusable(entry, "is a link to a folder that it lies in")
            yield from _files(real, root, (*within, real), inner)
        elif stat.S_ISREG(real.stat().st_mode):
            yield inner, real
        else:
            raise SourceUnusable(entry, "is neither a file nor a folder")


def _followed(link: Path, root: Path) -> Path:
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise SourceUnusable(link, "is a link that leads nowhere") from None
    if not real.is_relative_to(root):
        raise SourceUnusable(link, "is a link that leads out of the folder: copy what it leads to")
    return real


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Sent:
    """What zipfile writes to: bytes that wait to be taken. It cannot seek, as what is sent is sent."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        """Takes bytes."""
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing: they go when they are taken."""

    def close(self) -> None:
        """Nothing: zipfile wants it to be there."""

    def take(self, least: int = 1) -> Iterator[bytes]:
        """Gives what waits, if it is worth it."""
        if len(self._waiting) >= least:
            yield bytes(self._waiting)
            self._waiting.clear()


def _zip(files: dict[str, Path], report: Report | None) -> Pieces:
    """Packs files without compressing them: images hardly get smaller."""
    total = sum(path.stat().st_size for path in files.values())
    read, sent = 0, _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            info = zipfile.ZipInfo(name)
            info.file_size = path.stat().st_size  # says whether its header needs room for a large one
            with path.open("rb") as file, archive.open(info, "w") as entry:
                while chunk := file.read(CHUNK):
                    entry.write(chunk)
                    yield from sent.take(CHUNK)
                    read += len(chunk)
                    _tell(report, read, max(read, total))
    yield from sent.take()


def _read(archive: Path, size: int, report: Report | None) -> Pieces:
    read = 0
    with archive.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            read += len(chunk)
            _tell(report, read, size)


def _tell(report: Report | None, done: int, total: int) -> None:
    if report is not None:
        report(done, total)
