"""Unpacking an uploaded archive into a folder of its own, within limits that no archive can lie about."""

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from app.entries import DAMAGE, ArchiveInvalid, ArchiveTooLarge, Entry, Limits, open_archive, read_entries

# Datasets are images, which hardly get smaller; flat ones and tables do, but not without end.
MOST_RATIO = 100
ALWAYS_ALLOWED = 16 * 2**20  # bytes, whatever the ratio

FILE_MODE, FOLDER_MODE = 0o644, 0o755
_CHUNK = 2**20
_NAME_REFUSED = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


class GivenUp(Exception):
    """Whoever wanted the dataset is gone."""


def unpack(file: Path, folder: Path, limits: Limits, given_up: Callable[[], bool] = lambda: False) -> int:
    """Unpacks a zip archive into a folder that is there and empty; gives the bytes of its files.

    Whatever it raises, what is in the folder by then is for the caller to remove.

    Raises:
        ArchiveInvalid: it cannot be taken; the message names the entry.
        ArchiveTooLarge: it has more in it than `limits`, or it is a bomb.
        GivenUp: `given_up` said so.
        OSError: the disk is full, or does not work.
    """
    packed = file.stat().st_size
    with open_archive(file, limits) as archive:
        entries = read_entries(archive, packed, limits)
        meter = _Meter(packed, limits.unpacked_bytes)
        unpacked = _Unpacked(archive, folder, meter, given_up)
        for entry in entries:
            unpacked.add(entry)
    return meter.total


class _Meter:
    """Counts the bytes that come out of an archive, all of them and those of one entry."""

    def __init__(self, packed: int, most_bytes: int) -> None:
        self._packed, self._most = packed, most_bytes
        self.total = 0

    def count(self, entry: Entry, written: int, more: int) -> None:
        """So many bytes more are to be written of an entry of which `written` are."""
        self.total += more
        if self.total > self._most:
            raise ArchiveTooLarge(f"the archive has more than {self._most:,} bytes, unpacked")
        if self.total > most_unpacked(self._packed):
            raise _bomb("the archive")
        if written + more > most_unpacked(entry.info.compress_size):
            raise _bomb(entry.name)


def _bomb(name: str) -> ArchiveTooLarge:
    return ArchiveTooLarge(f"{name} unpacks to more than {MOST_RATIO} times its size, as only a bomb does")


def most_unpacked(packed: int) -> int:
    """The bytes to which so many may grow."""
    return max(MOST_RATIO * packed, ALWAYS_ALLOWED)


class _Unpacked:
    """The folder as it fills up. Every file and every folder in it is one that was not there before."""

    def __init__(
        self, archive: zipfile.ZipFile, root: Path, meter: _Meter, given_up: Callable[[], bool]
    ) -> None:
        self._archive, self._root, self._meter, self._given_up = archive, root, meter, given_up
        self._folders = {PurePosixPath()}

    def add(self, entry: Entry) -> None:
        """Unpacks an entry."""
        try:
            self._make(entry.path if entry.is_folder else entry.path.parent)
            if not entry.is_folder:
                self._write(entry)
        except FileExistsError as error:  # also where the file system takes two names for the same
            raise ArchiveInvalid(f"{entry.name} stands in the archive as another file or folder") from error
        except DAMAGE as error:
            raise ArchiveInvalid(f"{entry.name} is damaged: {error}") from error
        except OSError as error:
            if error.errno not in _NAME_REFUSED:
                raise
            raise ArchiveInvalid(f"{entry.name} is no name that a file can have here") from error

    def _make(self, folder: PurePosixPath) -> None:
        if folder in self._folders:
            return
        self._make(folder.parent)
        path = self._root / folder
        path.mkdir()
        path.chmod(FOLDER_MODE)
        self._folders.add(folder)

    def _write(self, entry: Entry) -> None:
        written = 0
        with self._archive.open(entry.info) as packed, (self._root / entry.path).open("xb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            while chunk := packed.read(_CHUNK):
                if self._given_up():
                    raise GivenUp
                self._meter.count(entry, written, len(chunk))
                written += file.write(chunk)
        if written != entry.info.file_size:
            raise ArchiveInvalid(f"{entry.name} is damaged: it ends too early")
