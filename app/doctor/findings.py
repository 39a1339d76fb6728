"""What an examination finds."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is and, where it is not well, what mends it.

    With a warning Thaw works, with an error some of it does not.
    """

    about: str
    level: Level
    message: str
    remedy: str | None = None


def well(about: str, message: str) -> Finding:
    """Something that is as it should be."""
    return Finding(about, "ok", message)


def warning(about: str, message: str, remedy: str) -> Finding:
    """Something that should be otherwise."""
    return Finding(about, "warning", message, remedy)


def error(about: str, message: str, remedy: str) -> Finding:
    """Something that keeps Thaw from working."""
    return Finding(about, "error", message, remedy)
