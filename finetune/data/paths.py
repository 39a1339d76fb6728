"""Paths that a client names are looked up below a root and nowhere else."""

from pathlib import Path, PurePosixPath


class Outside(Exception):
    """The path is absolute, climbs with `..`, or leads out of its root through a symbolic link."""


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


def sendable(name: str) -> str:
    """A file's name as text that can be sent and stored: bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
