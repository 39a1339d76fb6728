"""A folder of things that are dear to compute and the same every time, shared by all processes.

Nothing depends on it. An entry may be absent, damaged or evicted at any moment, the disk full, the folder
read-only: `get` then finds nothing, `put` keeps nothing, and what was looked for is computed anew.

Entries appear whole or not at all (temporary file, rename). They are not synced to the disk: what a power
failure leaves behind has a wrong checksum, and goes when somebody looks for it.
"""

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

DEFAULT_BYTES = 10 * 2**30
HEADER = struct.Struct("<8sQI44x")  # magic, length and CRC-32 of the content; the content is aligned to 64
MAGIC = b"thaw-1\x00\x00"
DIGITS = 20  # of the count of all bytes, always: some file systems wait for the disk where a file is cut
FREED = 0.05  # of the budget; eviction looks at every entry, and so must not be due at every `put`
TOUCH_AFTER = 60.0  # seconds; an entry's time of last use need not be more exact
ABANDONED_AFTER = 3600.0  # seconds after which nobody writes a temporary file any more
LOCK_PATIENCE = 1.0  # seconds; whoever holds the lock longer hangs, and nobody hangs with it
LOOK_AGAIN = 10.0  # seconds between two searches for room where there was none


def key_of(*parts: object) -> str:
    """A key made from all parts, each of which says all of itself in its `repr`."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Cache:
    """Entries of several kinds below a folder, together no larger than a budget in bytes."""

    def __init__(self, root: Path, budget: int) -> None:
        self.root, self.budget = root, budget
        self._no_room_until = 0.0
        self._whole: set[tuple[str, str]] = set()  # entries whose checksum this process has seen to be right

    def get(self, kind: str, key: str) -> bytearray | None:
        """An entry's content; None where there is none, or a damaged one, which is removed."""
        path = self._path(kind, key)
        try:
            with path.open("rb") as file:
                content = _read(file)
            if content is None:
                path.unlink()
            else:
                _touch(path)
        except OSError:  # it was evicted just now, or is not ours to touch
            pass
        else:
            return content
        return None

    def map(self, kind: str, key: str) -> memoryview | None:
        """An entry's content where it lies, at no cost in memory; None as `get` says.

        It is there for as long as somebody holds it, even if the entry is evicted. What is written to it
        stays with who writes. Its checksum is looked at when this process maps it for the first time.
        """
        path = self._path(kind, key)
        try:
            with path.open("rb") as file:
                content = _map(file, checked=(kind, key) in self._whole)
            if content is None:
                path.unlink()
            else:
                self._whole.add((kind, key))
                _touch(path)
        except (OSError, ValueError):  # as in `get`; no memory can be mapped, or an empty file
            return None
        return content

    def touch(self, kind: str, key: str) -> None:
        """Says that an entry is in use, which whoever holds a mapped one does now and then."""
        with suppress(OSError):  # it was evicted
            os.utime(self._path(kind, key))

    def put(self, kind: str, key: str, parts: Sequence[memoryview], idle_seconds: float = 0.0) -> None:
        """Keeps what the parts hold one after another, if there is room or room can be made.

        Room is made by evicting what has not been used for longest, and for `idle_seconds` at least. With
        more entries in use than fit, the first ones then stay, where each would else evict the next needed.
        """
        self.fill(kind, key, sum(part.nbytes for part in parts), parts, idle_seconds)

    def fill(
        self, kind: str, key: str, size: int, parts: Iterable[memoryview], idle_seconds: float = 0.0
    ) -> None:
        """Keeps parts of `size` bytes in all as `put` does, each made when there is room for all of them.

        Raises:
            OSError: where making a part does, whose errors are not the cache's.
        """
        path = self._path(kind, key)
        making = _Making(parts)
        temporary = path.with_name(f".{key}.{secrets.token_hex(8)}")
        with suppress(OSError):  # no room on the disk, no right to write, or a lock that does not come free
            if path.exists():
                return
            try:
                if self._reserve(temporary, HEADER.size + size, idle_seconds):
                    _write(temporary, making)
                    temporary.replace(path)
                    self._whole.add((kind, key))
            finally:
                temporary.unlink(missing_ok=True)
        if making.error is not None:
            raise making.error

    def shrink(self, size: int) -> None:
        """Evicts what has not been used for longest until `size` bytes more are free, for what comes first.

        What a process has mapped takes its room until that process lets go of it.
        """
        with suppress(OSError), _locked(self.root / ".total") as file:
            found = sorted(self._files())
            total = left = sum(bytes_ for _, bytes_, _ in found)
            for _, bytes_, path in found:
                if total - left >= size:
                    break
                if not path.name.startswith("."):
                    path.unlink(missing_ok=True)
                    left -= bytes_
            file.seek(0)
            file.write(b"%0*d" % (DIGITS, left))

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def _reserve(self, temporary: Path, size: int, idle_seconds: float) -> bool:
        """Makes a file of that size if there is room, and counts it: all processes keep to one budget."""
        if size > self.budget or (idle_seconds and time.monotonic() < self._no_room_until):
            return False
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.root / ".total") as file:
            total = _total(file)
            if total is None or total + size > self.budget:
                total = self._make_room(size, idle_seconds)
            fits = total + size <= self.budget
            file.seek(0)
            file.write(b"%0*d" % (DIGITS, total + size if fits else total))
            file.flush()  # before the file is there: killed in between, too much is counted, not too little
            if fits:
                with temporary.open("xb") as reserved:
                    reserved.truncate(size)
        if not fits:
            self._no_room_until = time.monotonic() + LOOK_AGAIN
        return fits

    def _make_room(self, size: int, idle_seconds: float) -> int:
        """Evicts if it must; gives the bytes that there are then."""
        now, found = time.time(), sorted(self._files())
        total = sum(bytes_ for _, bytes_, _ in found)
        if total + size <= self.budget:
            return total
        for used, bytes_, path in found:
            if total + size <= (1 - FREED) * self.budget:
                break
            idle = abs(now - used)  # a time in the future is that of a clock that was put right
            if idle < (ABANDONED_AFTER if path.name.startswith(".") else idle_seconds):
                continue
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= bytes_
        return total

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """All files of all kinds, the temporary ones too: time of last use, bytes, path."""
        for kind in self.root.iterdir():
            if not kind.is_dir():
                continue
            for entry in os.scandir(kind):
                with suppress(FileNotFoundError):  # its owner renamed or removed it just now
                    found = entry.stat()
                    yield found.st_mtime, found.st_size, Path(entry.path)


class _Making:
    """Parts one after another, and the error that making one of them raised."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = parts
        self.error: OSError | None = None

    def __iter__(self) -> Iterator[memoryview]:
        try:
            yield from self._parts
        except OSError as error:
            self.error = error
            raise


def _touch(path: Path) -> None:
    if abs(time.time() - path.stat().st_mtime) > TOUCH_AFTER:
        os.utime(path)


def _read(file: BufferedReader) -> bytearray | None:
    header = _header(file)
    if header is None:
        return None
    length, checksum = header
    content = bytearray(length)
    return content if file.readinto(content) == length and zlib.crc32(content) == checksum else None


def _map(file: BufferedReader, checked: bool) -> memoryview | None:
    header = _header(file)
    if header is None:
        return None
    content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))[HEADER.size :]
    return content if checked or zlib.crc32(content) == header[1] else None


def _header(file: BufferedReader) -> tuple[int, int] | None:
    """Length and checksum that the content should have; None where it cannot have them."""
    header = file.read(HEADER.size)
    size = os.fstat(file.fileno()).st_size - HEADER.size
    if size < 0:
        return None
    magic, length, checksum = HEADER.unpack(header)
    return (length, checksum) if magic == MAGIC and length == size else None


def _write(temporary: Path, parts: Iterable[memoryview]) -> None:
    length = checksum = 0
    with temporary.open("r+b") as file:
        file.seek(HEADER.size)
        for part in parts:
            length += part.nbytes
            checksum = zlib.crc32(part, checksum)
            file.write(part)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, length, checksum))


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """A file that one thread of one process has at a time; a process that is killed lets it go.

    Raises:
        OSError: it did not come free in time, or cannot be opened.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
        yield file


def _total(file: BinaryIO) -> int | None:
    """The bytes counted so far; None where the count has been lost."""
    file.seek(0)
    text = file.read(DIGITS)
    return int(text) if text.isdigit() else None
