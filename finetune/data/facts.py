"""What is known of a file from having opened it once."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from finetune.data.looks import Look, look_at
from finetune.data.opening import FORMATS, LONGEST_START, TAKEN, Undecodable, open_upright, other_format
from finetune.data.paths import Irregular, Outside, open_below

Verdict = Literal["sound", "unreadable", "not_an_image"]
Stamp = tuple[int, int, int]  # size in bytes; when the content and when the inode changed, in nanoseconds
Keep = Callable[[Path, os.stat_result, Image.Image], None]

NOTHING = Look()


@dataclass(frozen=True)
class FileFacts:
    """A file as it was when it was opened. `reason` says what is wrong with one that is not sound.

    `sha256` (hexadecimal) is of the content; it is absent where that could not be read. Width and height in
    pixels are those of the upright image.
    """

    stamp: Stamp
    verdict: Verdict
    reason: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    look: Look = NOTHING

    @property
    def sound(self) -> bool:
        """Whether the file is an image that can be decoded whole."""
        return self.verdict == "sound"

    @property
    def lasts(self) -> bool:
        """Whether the same file would be judged so again. The disk, a right or the memory may have failed."""
        return bool(self.sha256)


def stamp_of(found: os.stat_result) -> Stamp:
    """The inode's time catches what sets the content's time back, as `cp -p` and `rsync -t` do."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def examine(path: Path, root: Path, keep: Keep | None = None) -> FileFacts:
    """Opens a file below the data root, and decodes it whole. What can be decoded is given to `keep`."""
    stamp = (0, 0, 0)
    try:
        with open_below(path, root) as file:
            found = os.fstat(file.fileno())
            stamp = stamp_of(found)
            facts, image = _read(file, stamp)
        changed = stamp_of(path.stat()) != stamp
    except Irregular:
        return FileFacts(stamp, "not_an_image", "it is no regular file")
    except Outside:
        return FileFacts(stamp, "unreadable", "it leads out of the data root")
    except OSError as error:
        return FileFacts(stamp, "unreadable", _words(error))
    if changed:
        return FileFacts(stamp, "unreadable", "it was written to while it was read")
    if image is not None and keep is not None:
        with suppress(MemoryError, RuntimeError):  # it is not kept then, and decoded anew
            keep(path, found, image)
    return facts


def _read(file: BufferedReader, stamp: Stamp) -> tuple[FileFacts, Image.Image | None]:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    try:
        image = open_upright(file)
        look = look_at(image)
    except MemoryError as error:
        return FileFacts(stamp, "unreadable", _words(error)), None
    except Undecodable as error:
        return _unsound(file, stamp, digest, error), None
    facts = FileFacts(stamp, "sound", "", digest, image.width, image.height, image.format or "", look)
    return facts, image


def _unsound(file: BufferedReader, stamp: Stamp, digest: str, error: Undecodable) -> FileFacts:
    cause = error.__cause__
    if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None):
        return FileFacts(stamp, "unreadable", _words(cause))
    if not isinstance(cause, UnidentifiedImageError):
        return FileFacts(stamp, "unreadable", str(error).replace(os.fspath(file.name), "it"), digest)
    file.seek(0)
    start = file.read(16)
    if (other := other_format(start[:LONGEST_START])) is not None:
        return FileFacts(stamp, "unreadable", f"it is {other}: {TAKEN}", digest)
    accepts = [Image.OPEN[kind][1] for kind in FORMATS]
    if any(accept(start) for accept in accepts if accept is not None):
        return FileFacts(stamp, "unreadable", "it ends before the image begins", digest)
    return FileFacts(stamp, "not_an_image", "its content is none" if start else "it is empty", digest)


def _words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    return str(getattr(error, "strerror", None) or type(error).__name__)
