"""Room on the disk that is kept for the database: it can say what became of a job when the disk is full."""

import errno
import os
from pathlib import Path

import structlog

from finetune import disk as disks

log = structlog.get_logger()

BYTES = 16 * 2**20  # many times what a job's last rows and the database's log of them take


class Reserve:
    """A file that takes room while there is enough of it. All workers of a home share it."""

    def __init__(self, home: Path, size: int = BYTES) -> None:
        self._path, self._size = home / "reserve", size

    def keep(self) -> bool:
        """Takes the room, where it is not taken; says whether it is, or false where the disk is full."""
        if self._path.exists():
            return True
        temporary = self._path.with_name(f".reserve.{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            disks.disk.write(temporary, self._fill)
            disks.disk.rename(temporary, self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            log.warning("no room can be kept for the database", error=str(error))
        return True

    def give_up(self) -> None:
        """Lets go of the room, for whoever needs it now."""
        log.warning("the disk is full: the room that was kept for the database is given up")
        self._path.unlink(missing_ok=True)

    def _fill(self, path: Path) -> None:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self._size)
            else:
                file.write(bytes(self._size))
