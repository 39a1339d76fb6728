"""Paths that a client names are looked up and opened below a root, and nowhere else."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without waiting: of a named pipe, for somebody who writes.
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Outside(Exception):
    """The path is absolute, climbs with `..`, or leads out of its root through a symbolic link."""


class Irregular(Exception):
    """It is no regular file: a folder, a pipe, a socket, a device."""


def resolve_below(root: Path, relative: str) -> Path:
    """The real path of `relative` below `root`, existing or not.

    Raises:
        Outside: it is not below the root.
    """
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\x00" in relative:
        raise Outside(relative)
    try:
        real_root = root.resolve()
        real = (real_root / path).resolve()
        real.exists()
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise Outside(relative) from error
    if not real.is_relative_to(real_root) or real == real_root:
        raise Outside(relative)
    return real


def open_below(path: Path, root: Path) -> BufferedReader:
    """Opens a regular file below `root` to read it.

    Where `path` leads to is found out once, links and all, and compared with the root; then it is opened
    component by component without following any. So a link that somebody puts in its way between a check and
    now leads nowhere.

    Raises:
        Outside: it leads out of the root, or there is a link where there was none a moment ago.
        Irregular: it is no regular file.
        OSError: it is not there, or may not be read.
    """
    real_root = os.path.realpath(root)
    inside = os.path.relpath(os.path.realpath(path), real_root)
    *folders, name = Path(inside).parts or ("",)
    if name in ("", "..") or ".." in folders:
        raise Outside(os.fspath(path))

    def opener(_: str, flags: int) -> int:
        return _open(real_root, folders, name)

    return open(path, "rb", opener=opener)  # Path.open takes no opener


def _open(root: str, folders: list[str], name: str) -> int:
    folder = os.open(root, FOLDER & ~os.O_NOFOLLOW)
    try:
        for part in folders:
            inner = _descend(part, FOLDER, folder)
            os.close(folder)
            folder = inner
        file = _descend(name, FILE, folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Irregular(name)
    return file


def _descend(part: str, flags: int, folder: int) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and _is_link(part, folder)):
            raise Outside(part) from error
        if error.errno == errno.ENXIO:  # a socket
            raise Irregular(part) from error
        raise


def _is_link(part: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)


def sendable(name: str) -> str:
    """A file's name as text that can be sent and stored: bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
