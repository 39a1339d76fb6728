"""A dataset on its way in: made in a hidden folder beside the others, and put among them by one rename.

The folder is locked while the process that fills it lives. One without a lock was left by a server that was
killed, and is removed by the next one, or by the next upload of that name.
"""

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

import structlog

from app.unpacking import FOLDER_MODE
from finetune.data.listing import SPLITS
from finetune.data.manifests import is_manifest

log = structlog.get_logger()

PREFIX = ".upload-"  # hidden: what begins so is no dataset
_LOCK = "lock"


class NameTaken(Exception):
    """There is a dataset of that name, or one is on its way in."""


class Staging:
    """The folder of one upload: `archive` and `new` are its caller's, `target` is where it is to go.

    `claim_name` opens one.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder, self._lock = folder, lock
        self.target = folder.with_name(folder.name.removeprefix(PREFIX))
        self.archive, self.new = folder / "archive.zip", folder / "new"

    def put(self, replace: bool) -> bool:
        """Makes `new` the dataset; says whether there was one before.

        Raises:
            NameTaken: there is one, and it is not to be replaced.
            OSError: it cannot be put there. One that was there is there again.
        """
        whole = _without_wrapping(self.new)
        os.sync()  # a power cut leaves the dataset whole, or none
        check_free(self.target, replace)
        before = os.path.lexists(self.target)
        if before:
            self.target.rename(self._old)
        try:
            whole.rename(self.target)
        except OSError as error:
            self.restore()
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise NameTaken(f"somebody else has just made {self.target.name!r}") from error
            raise
        return before

    def restore(self) -> None:
        """Puts the old dataset back where the new one did not get there."""
        if os.path.lexists(self._old) and not os.path.lexists(self.target):
            self._old.rename(self.target)

    def close(self) -> None:
        """Removes the folder with all that is left in it, the lock last: without one it is nobody's."""
        try:
            self.restore()
            for entry in self._folder.iterdir():
                if entry.name == _LOCK:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            (self._folder / _LOCK).unlink()
            self._folder.rmdir()
        except OSError as error:
            log.warning("what an upload left cannot be removed", folder=self._folder.name, error=str(error))
        finally:
            os.close(self._lock)

    @property
    def _old(self) -> Path:
        return self._folder / "old"


def claim_name(data_dir: Path, name: str, replace: bool) -> Staging:
    """Takes a name for an upload, until the staging is closed.

    Raises:
        NameTaken: a dataset has the name and is not to be replaced, or another upload has it.
        OSError: the data root cannot be written to.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    folder = data_dir / f"{PREFIX}{name}"
    if folder.exists():
        _clear(folder)
    check_free(data_dir / name, replace)
    lock = None
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        lock = _lock(folder)
    if lock is None:
        raise NameTaken(f"a dataset {name!r} is being uploaded already")
    staging = Staging(folder, lock)
    try:
        staging.new.mkdir()
        staging.new.chmod(FOLDER_MODE)
    except OSError:
        staging.close()
        raise
    return staging


def check_free(target: Path, replace: bool) -> None:
    """Refuses a name that a dataset has, unless it is to be replaced.

    Raises:
        NameTaken: it has.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise NameTaken(f"{target.name!r} is the name of a file: take another one")
    if not replace:
        raise NameTaken(
            f"there is a dataset {target.name!r} already: take another name, or replace it "
            "(?replace=true, --replace)"
        )


def sweep(data_dir: Path) -> None:
    """Removes what uploads left whose server was killed."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in data_dir.iterdir():
            if entry.name.startswith(PREFIX) and entry.is_dir():
                _clear(entry)


def _clear(folder: Path) -> None:
    """Removes the folder of an upload that nobody works on any more."""
    if (lock := _lock(folder)) is not None:
        log.warning("removes what an upload left that was broken off", folder=folder.name)
        Staging(folder, lock).close()


def _lock(folder: Path) -> int | None:
    """The folder's lock, which ends with the process; None where another one holds it, or just removed it."""
    path = folder / _LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _without_wrapping(folder: Path) -> Path:
    """The dataset in an unpacked archive: what lies in a single top folder, and in one in that, lies in it.

    A folder `train` or `val` is a part of the dataset, and one with neither folders nor a manifest in it is a
    class.
    """
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name in SPLITS:
            return folder
        inside = list(entries[0].iterdir())
        if not any(entry.is_dir() or is_manifest(entry) for entry in inside):
            return folder
        folder = entries[0]
