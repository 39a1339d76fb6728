"""What server and worker log: no line that a client could write, and no key.

Names, addresses and messages in the log come from whoever sends requests. A line break in one would forge a
line, an escape sequence rewrite the screen of whoever reads it.
"""

import logging
import re
import sys
from io import StringIO
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

_KEY = re.compile(r"\b(thaw_)[A-Za-z0-9_-]{24,}|\b((?:bearer|basic)\s+)\S+", re.IGNORECASE)


def configure() -> None:
    """Sends the log to stderr, from level info on."""
    # Warnings and errors of libraries go to stderr by logging's last resort.
    # Plain tracebacks: the usual ones show every variable, which takes seconds and may hold secrets.
    show = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback)
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], _clean, show],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def plain(text: str, kept: str = "") -> str:
    """Text without keys, and with everything that steers a terminal written out; `kept` characters stay."""
    hidden = _KEY.sub(lambda match: f"{match[1] or match[2]}…", text)
    if hidden.isprintable():
        return hidden
    return "".join(c if c.isprintable() or c in kept else _written_out(c) for c in hidden)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _clean(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if not isinstance(value, int | float | bool | None) and name != "exc_info":
            event[name] = plain(str(value))
    return event


def _traceback(out: TextIO, error: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(plain(text.getvalue(), kept="\n\t"))
