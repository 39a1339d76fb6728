"""How a worker, or a server with streams, hears at once of something for it: a named pipe each, in a folder.

Nothing depends on it. Where there can be no pipe, or on another machine, one looks by oneself.
A pipe's path may be as long as any other; that of a socket may not.
"""

import errno
import os
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

_RING = b"!"
_CAPACITY = 65536  # bytes that a pipe holds


class Doorbell:
    """One's own. Others find it by its file; without one it still rings for its owner."""

    def __init__(self, folder: Path, name: str) -> None:
        """Hang it into `folder`, which is made if it is not there, under a `name` of one's own."""
        self._path = folder / name
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        self.hang()

    def fileno(self) -> int:
        """Return what can be read once it has rung."""
        return self._reader

    def hang(self) -> None:
        """Put its file up where it is not there: somebody may have emptied the folder."""
        with suppress(OSError):
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                os.mkfifo(self._path, 0o600)
                self._listen()

    def _listen(self) -> None:
        # The end for writing stays open here: a pipe that nobody can write to counts as ready to be read.
        # Both or none are taken over: somebody may remove the file in between.
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            os.close(reader)
            raise
        for end, ours in ((reader, self._reader), (writer, self._writer)):
            os.dup2(end, ours, inheritable=False)
            os.close(end)

    def wait(self, seconds: float) -> None:
        """Wait for a ring, and no longer than `seconds`."""
        wait([self._reader], seconds)

    def has_rung(self) -> bool:
        """Whether it has rung since this was last asked."""
        try:
            return bool(os.read(self._reader, _CAPACITY))
        except BlockingIOError:
            return False

    def ring(self) -> None:
        """Ring it oneself. Safe to call from a signal handler, and after the end."""
        with suppress(OSError):  # a pipe that is full has rung often enough
            os.write(self._writer, _RING)

    def take_down(self) -> None:
        """End it, with its file."""
        ends, self._reader, self._writer = (self._reader, self._writer), -1, -1
        for end in ends:
            os.close(end)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def ring(folder: Path) -> None:
    """Ring at every doorbell that hangs in `folder`. Never waits, never fails.

    The file of whoever is gone is removed.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            with suppress(OSError):
                _ring(path)


def count_listening(folder: Path) -> int:
    """Count the workers of this machine whose doorbell hangs in `folder`, without ringing."""
    found = 0
    with suppress(OSError):
        for path in list(folder.iterdir()):
            with suppress(OSError):  # nobody listens there any more
                if path.is_fifo():
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                    found += 1
    return found


def _ring(path: Path) -> None:
    try:
        end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        # Nobody listens. A worker on another machine that shares the folder puts up its file again.
        path.unlink(missing_ok=True)
        return
    try:
        os.write(end, _RING)  # a pipe that is full has rung often enough
    finally:
        os.close(end)
