"""A backup while Thaw runs: the database as it was at one moment and, if wanted, the files that it names."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from app.orphans import DAY
from app.settings import Settings
from app.store.artifacts import StoredFile
from app.store.copies import CopyFailed, copy_database
from finetune import disk as disks

ROUNDS = 20
PINS = ".backup-"  # a folder of links to what is being copied
CHUNK = 2**20


@dataclass(frozen=True)
class Backup:
    """What was made: bytes of the database's copy, files and their bytes that are new, files that are lost.

    Lost files are named by rows and not there, or not what the row says.
    """

    database_bytes: int
    files: int
    new_files: int
    new_bytes: int
    lost: tuple[str, ...]


def back_up(settings: Settings, target: Path, artifacts: Path | None = None) -> Backup:
    """Copies the database into the file `target`, and the files that it names into the folder `artifacts`.

    Files that are in the folder already are not copied again: they never change. Those that the copy names
    and that training has let go of meanwhile are nowhere any more, and then the database is copied once more.

    Raises:
        CopyFailed: the database cannot be copied, `target` is there already, or `artifacts` is Thaw's own.
        OSError: something cannot be written.
    """
    if os.path.lexists(target):
        raise CopyFailed(f"{target} is there already: take another name")
    if artifacts is not None and _below(artifacts, settings.artifacts_dir):
        raise CopyFailed(f"{artifacts} is Thaw's own folder of artifacts, or in it: take another one")
    keeper = _Keeper(settings.artifacts_dir, artifacts)
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        copy_database(settings.database_url, part, keeper.keep)
        for _ in range(ROUNDS):
            if not keeper.lost:
                break
            part.unlink()
            before = keeper.lost
            copy_database(settings.database_url, part, keeper.keep)
            if keeper.lost == before:  # nobody let go of them: they are missing
                break
        size = part.stat().st_size
        part.rename(target)
        disks.disk.sync(target.parent)
    finally:
        part.unlink(missing_ok=True)
    return Backup(size, keeper.files, keeper.new_files, keeper.new_bytes, tuple(sorted(keeper.lost)))


class _Keeper:
    """Copies artifacts from one folder to another, or, where there is no other one, none.

    `files` is how many the database named when it was last asked, `lost` the paths of those of them that
    could not be copied; `new_files` and `new_bytes` count what was copied.
    """

    def __init__(self, source: Path, target: Path | None) -> None:
        self._source, self._target = source, target
        self.files = self.new_files = self.new_bytes = 0
        self.lost: set[str] = set()

    def keep(self, files: Iterable[StoredFile]) -> None:
        """Copies what is not there yet."""
        if self._target is None:
            return
        self._source.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=PINS, dir=self._source) as pins:
            held = {file: self._hold(file, self._target, Path(pins, str(n))) for n, file in enumerate(files)}
            self.files = len(held)
            self.lost = {
                file.path
                for file, source in held.items()
                if not self._keep(file, source, self._target / file.path)
            }
        for left in self._source.glob(f"{PINS}*"):  # by a backup that was killed
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)

    def _hold(self, file: StoredFile, folder: Path, pin: Path) -> Path:
        """Links a file that is new, at once: training lets go of files faster than they can be copied."""
        source = self._source / file.path
        with suppress(OSError):  # it is gone, or there are no links here
            if not (folder / file.path).exists():
                os.link(source, pin)
                return pin
        return source

    def _keep(self, file: StoredFile, source: Path, target: Path) -> bool:
        if _is_there(target, source, file):
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            if _copy(source, part) != file.sha256:
                return False
            part.rename(target)
            disks.disk.sync(target.parent)
        except FileNotFoundError:
            return False
        finally:
            part.unlink(missing_ok=True)
        self.new_files += 1
        self.new_bytes += file.size
        return True


def _is_there(target: Path, source: Path, file: StoredFile) -> bool:
    """Whether a copy is the file that is meant: after a restore another one may be written under its name."""
    try:
        stat = target.stat()
    except FileNotFoundError:
        return False
    if stat.st_size != file.size:
        return False
    with suppress(FileNotFoundError):
        if source.stat().st_mtime_ns == stat.st_mtime_ns:
            return True
    with target.open("rb") as copied:
        return hashlib.file_digest(copied, "sha256").hexdigest() == file.sha256


def _copy(source: Path, target: Path) -> str:
    """Copies a file with its time onto the disk; gives the SHA-256 of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as ours, target.open("wb") as copy:
        while chunk := ours.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
        changed = os.fstat(ours.fileno()).st_mtime_ns
    os.utime(target, ns=(changed, changed))
    return digest.hexdigest()


def _below(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())
