"""The bundle: a zip with the model, its card, and what a program needs to know of it."""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say
MODE = 0o644
UNIX = 3


def write_bundle(path: Path, files: Sequence[Path], texts: Mapping[str, str]) -> None:
    """Writes files under their own names, and texts under theirs, in that order, as they are.

    The same contents give the same bytes. Nothing is packed: weights do not become smaller.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for file in files:
            with file.open("rb") as source, bundle.open(_entry(file.name), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 2**20)
        for name, text in texts.items():
            bundle.writestr(_entry(name), text)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.create_system, entry.external_attr = UNIX, MODE << 16
    return entry
