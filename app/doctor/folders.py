"""Can the folders be read and written to, and is there room?"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.doctor.findings import Finding, error, warning, well
from app.settings import Settings

ABOUT = "folders"
LITTLE = 5 * 2**30  # bytes left, of which a few checkpoints and features may take a part at any moment
GIB = 2**30


def look(settings: Settings) -> Iterator[Finding]:
    """The home folder and what lies in it, the datasets, the weights."""
    home = settings.home_dir
    for folder in (home, settings.artifacts_dir):
        yield _writable(folder)
    there = _nearest(home)
    free = shutil.disk_usage(there).free
    room = f"{free / GIB:.1f} GiB are free where {home} is"
    if free < LITTLE:
        remedy = (
            "free some space; THAW_JOB_DAYS, THAW_CHECKPOINT_DAYS and THAW_CACHE_BYTES bound what is kept"
        )
        yield warning(ABOUT, room, remedy)
    else:
        yield well(ABOUT, room)
    yield _readable(settings.data_dir, "the datasets", "THAW_DATA_DIR")
    yield _readable(settings.weights_dir, "weight files", "THAW_WEIGHTS_DIR")
    if settings.upload_bytes and settings.data_dir.is_dir() and not _can_write(settings.data_dir):
        yield warning(
            ABOUT,
            f"{settings.data_dir} cannot be written to: `thaw upload` will be refused",
            "give this user the folder, or set THAW_UPLOAD_BYTES=0",
        )


def _writable(folder: Path) -> Finding:
    there = _nearest(folder)
    if not _can_write(there):
        return error(
            ABOUT, f"{there} cannot be written to", f"give {folder} to this user, or set THAW_HOME_DIR"
        )
    return well(ABOUT, f"{folder} can be written to" if folder.is_dir() else f"{folder} will be made")


def _readable(folder: Path, what: str, setting: str) -> Finding:
    remedy = f"make it, or set {setting} to the folder that has {what}"
    if not folder.is_dir():
        return warning(ABOUT, f"there is no folder {folder} for {what}", remedy)
    if not os.access(folder, os.R_OK | os.X_OK):
        return error(ABOUT, f"{folder} cannot be read", f"let this user read {what} there")
    return well(ABOUT, f"{folder} can be read")


def _nearest(folder: Path) -> Path:
    """The folder, or what there is on the way to it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _can_write(folder: Path) -> bool:
    """Tried, not asked: a full or read-only disk has the same permissions as any other."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"thaw")
    except OSError:
        return False
    return True
