"""What an image of a dataset is called, wherever it is spoken of: its name, and an id made of it."""

import hashlib
import os
from pathlib import Path

PREFIX, DIGITS = "img_", 24


def file_name(path: Path, folder: Path) -> str:
    """A file as it is called from a dataset's folder; what is no UTF-8 becomes a replacement character."""
    return os.fsencode(Path(os.path.relpath(path, folder)).as_posix()).decode(errors="replace")


def image_id(name: str) -> str:
    """The id of the image with this `file_name`: the same on every server, whatever the file holds."""
    return PREFIX + hashlib.sha256(name.encode()).hexdigest()[:DIGITS]
