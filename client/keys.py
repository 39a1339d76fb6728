"""The key that a server may demand: from the command line, the environment, or a file that is one's own."""

import re
import stat
from pathlib import Path

from client.errors import KeyUnusable

_FORM = re.compile(r"thaw_[0-9A-Za-z]+", re.ASCII)
_LONGEST = 1000  # bytes of a file that holds a key


def check_key(key: str) -> str:
    """Gives back what has the form of a key, so that nothing else gets into a header.

    Raises:
        KeyUnusable: it has not. The message does not repeat it.
    """
    if not _FORM.fullmatch(key):
        raise KeyUnusable("that is no key: one begins with thaw_ and has letters and digits after it")
    return key


def read_key(file: Path) -> str:
    """The key in a file that nobody else can read.

    Raises:
        KeyUnusable: others can read it, or it holds none.
    """
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(file.stat().st_mode)
            content = opened.read(_LONGEST)
    except OSError as error:
        raise KeyUnusable(f"the key file {file} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise KeyUnusable(f"others can read the key file {file}: `chmod 600 {file}`, and make a new key")
    key = content.decode("ascii", "replace").strip()
    if not _FORM.fullmatch(key):
        raise KeyUnusable(f"the file {file} holds no key: one begins with thaw_")
    return key
