"""The entries of a zip archive, each looked at before any is written: where it goes, or why it is refused."""

import errno
import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOST_DIRECTORY_BYTES = 2**30
LONGEST_PART, LONGEST_PATH = 255, 1024  # bytes of a name, and of all names on the way to a file
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
JUNK = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
"""What zipfile raises over archives that are not as they should be."""

_ENTRY = b"PK\x01\x02"  # how each entry of the directory begins
_DRIVE = re.compile(r"[A-Za-z]:")
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of surrogate pairs, separators of lines
_UTF8 = 0x800  # the flag of a name that is UTF-8
_LONGEST_SHOWN = 200


class ArchiveInvalid(Exception):
    """What was sent is no zip archive that can be taken; the message says what to mend."""


class ArchiveTooLarge(Exception):
    """The archive has more in it than may be; the message says the limit."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold: bytes unpacked, and files and folders together."""

    unpacked_bytes: int
    files: int


@dataclass(frozen=True)
class Entry:
    """A file or a folder of the archive, and where it goes below the dataset's folder."""

    info: zipfile.ZipInfo
    path: PurePosixPath

    @property
    def name(self) -> str:
        """The name for a message."""
        return shown(_said(self.info))

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; the name says so, as in all that unpack zip archives."""
        return self.info.orig_filename.endswith("/")


class _Directory(io.FileIO):
    """The archive's file while zipfile reads the directory, which it does with one read.

    It makes an object for each entry, whatever the archive says about their number: a directory of gigabytes
    would fill the memory before anyone could count.
    """

    def __init__(self, file: Path, most_entries: int) -> None:
        super().__init__(file)
        self._most: int | None = most_entries

    def read(self, size: int | None = -1) -> bytes:
        """Reads; refuses a directory with too many entries."""
        asked = -1 if size is None else size
        if self._most is not None and asked > MOST_DIRECTORY_BYTES:
            raise ArchiveTooLarge(f"the archive's directory is longer than {MOST_DIRECTORY_BYTES:,} bytes")
        data = super().read(asked) or b""
        if self._most is not None and data.count(_ENTRY) > self._most:
            raise ArchiveTooLarge(f"the archive has more than {self._most:,} entries")
        return data

    def opened(self) -> None:
        """The directory has been read: what comes now are files."""
        self._most = None


@contextmanager
def open_archive(file: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive.

    Raises:
        ArchiveInvalid: it is none, or it is not whole.
        ArchiveTooLarge: it has more entries than it may.
    """
    # A Mac puts a second entry beside each file, and a folder is one, too.
    with _Directory(file, 2 * limits.files + 1000) as directory:
        try:
            archive = zipfile.ZipFile(directory)
        except DAMAGE as error:
            raise ArchiveInvalid(f"this is no whole zip archive: {error}") from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ArchiveInvalid("this is no whole zip archive: its directory is nowhere") from error
        directory.opened()
        with archive:
            yield archive


def read_entries(archive: zipfile.ZipFile, packed: int, limits: Limits) -> list[Entry]:
    """What is to be unpacked of an archive of `packed` bytes, in its order. All of it has a sound name.

    Hidden files and what systems leave behind (`JUNK`) are left out: no dataset has them.

    Raises:
        ArchiveInvalid: an entry cannot be taken; the message names it.
        ArchiveTooLarge: there are too many, or they say themselves that they are too large.
    """
    entries = [Entry(info, _path(info)) for info in archive.infolist()]
    for entry in entries:
        _check_kind(entry)
    if sum(entry.info.compress_size for entry in entries) > packed:
        raise ArchiveInvalid("the archive's entries overlap, or it is not whole: pack it anew")
    entries = [entry for entry in entries if entry.path.parts and not _is_junk(entry.path)]
    files = [entry for entry in entries if not entry.is_folder]
    if not files:
        raise ArchiveInvalid("the archive has no files in it")
    _check_number(entries, limits.files)
    if sum(entry.info.file_size for entry in files) > limits.unpacked_bytes:
        raise ArchiveTooLarge(f"the archive has more than {limits.unpacked_bytes:,} bytes, unpacked")
    _check_twins(files)
    return entries


def _check_twins(files: list[Entry]) -> None:
    seen = set[PurePosixPath]()
    for entry in files:
        if entry.path in seen:
            raise ArchiveInvalid(f"{entry.name} stands twice in the archive")
        seen.add(entry.path)


def shown(name: str) -> str:
    """An entry's name for a message: quoted, and not without end."""
    return repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…")


def _check_number(entries: list[Entry], most: int) -> None:
    """Counts files and folders, those also that have no entry of their own."""
    there = {PurePosixPath()}
    for entry in entries:
        path = entry.path
        while path not in there:  # what is there, is there with all that it lies in
            there.add(path)
            path = path.parent
        if len(there) > most + 1:
            raise ArchiveTooLarge(f"the archive has more than {most:,} files and folders")


def _is_junk(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in JUNK for part in path.parts)


def _check_kind(entry: Entry) -> None:
    """Refuses what is neither a plain file nor a folder, and what cannot be read safely."""
    name, info, kind = entry.name, entry.info, stat.S_IFMT(entry.info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise ArchiveInvalid(f"{name} is a symbolic link: pack the file that it leads to")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveInvalid(f"{name} is a device, a pipe or a socket: leave it out")
    if info.flag_bits & 0x1:
        raise ArchiveInvalid(f"{name} is encrypted: pack it without a password")
    # zipfile unpacks the others in pieces of any size: a few bytes would fill the memory.
    if info.compress_type not in METHODS:
        raise ArchiveInvalid(f"{name} is packed by a method that is not taken here: use deflate or store")


def _path(info: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes.

    Raises:
        ArchiveInvalid: out of the dataset's folder, or under a name that no file should have.
    """
    raw = _said(info)
    name = shown(raw)
    if not raw:
        raise ArchiveInvalid("an entry of the archive has no name")
    if any(unicodedata.category(character) in _UNSEEN for character in raw):
        raise ArchiveInvalid(f"{name} has characters in its name that cannot be shown")
    if "\\" in raw:
        raise ArchiveInvalid(f"{name} has a backslash in its name: folders are separated by /")
    if raw.startswith("/") or _DRIVE.match(raw):
        raise ArchiveInvalid(f"{name} begins at a root or a drive: names in an archive are relative")
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveInvalid(f"{name} leads out of the archive's own folder")
    if any(_bytes(part) > LONGEST_PART for part in parts) or _bytes(raw) > LONGEST_PATH:
        raise ArchiveInvalid(
            f"{name} is too long: a name has at most {LONGEST_PART} bytes, a path {LONGEST_PATH}"
        )
    return PurePosixPath(*parts)


def _said(info: zipfile.ZipInfo) -> str:
    """An entry's name as it was meant.

    Macs write UTF-8 without saying so, which zipfile reads as the code page of DOS.
    """
    name = info.orig_filename  # `filename` ends at the first NUL
    if info.flag_bits & _UTF8 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _bytes(text: str) -> int:
    return len(text.encode())
