"""What it takes to write something that lasts, in one place, so that tests can let each operation fail."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


class Disk:
    """The machine's own. None of these operations is retried, and each raises the system's OSError."""

    def write(self, path: Path, write: Callable[[Path], object]) -> None:
        """Makes a file by calling `write` with its path."""
        write(path)

    def sync(self, path: Path) -> None:
        """Waits until a file, or a folder's list of files, is on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Puts a file in another's place, at once."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Removes a file, if it is there."""
        path.unlink(missing_ok=True)

    def free_bytes(self, folder: Path) -> int:
        """How many bytes may still be written below a folder."""
        return shutil.disk_usage(folder).free


disk = Disk()


def use(other: Disk) -> None:
    """Lets this process write by way of another disk."""
    global disk
    disk = other
