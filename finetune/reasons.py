"""What an error says, fit to be shown to a client: one line, without the server's folders."""

import re
from collections.abc import Iterable
from pathlib import Path

LONGEST = 300
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s'\",:;()]+/)*")  # of absolute paths: the names alone are shown


def reason_of(error: BaseException, roots: Iterable[Path] = ()) -> str:
    """The kind of an error and its first line. Paths below one of the roots are shown from there on."""
    first = next((line for line in str(error).splitlines() if line.strip()), "no message")
    for root in roots:
        first = first.replace(f"{root}/", "")
    return f"{type(error).__name__}: {FOLDERS.sub('', first)[:LONGEST]}"
