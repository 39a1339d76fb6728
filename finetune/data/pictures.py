"""Small pictures of a dataset's images, for people to look at, made in a process beside the server."""

import io
import os
from collections.abc import Callable
from pathlib import Path

from finetune.cache import Cache, key_of
from finetune.data.opening import Undecodable, open_upright
from finetune.data.paths import Irregular, Outside, open_below
from finetune.errors import ImageInvalid

KIND = "pictures"  # what the cache calls them
QUALITY = 82
MEDIA_TYPE = "image/jpeg"

Asked = tuple[str, int]  # a file's path, and how long the picture's longest side may be, in pixels


def key_for(path: str, stat: os.stat_result, side: int) -> str:
    """By what a picture is found again: another file at the path gives another key."""
    return key_of(KIND, path, stat.st_size, stat.st_mtime_ns, side, QUALITY)


def draw(path: str, root: Path, side: int, cache: Cache | None = None) -> bytes:
    """A JPEG of the image, upright, no side of it longer than `side` pixels, and none longer than it is.

    Raises:
        ImageInvalid: it cannot be read as an image, or is no file below the root.
    """
    try:
        with open_below(Path(path), root) as opened:
            key = key_for(path, os.fstat(opened.fileno()), side)
            image = open_upright(opened, side)
    except (Undecodable, Irregular, Outside, OSError) as error:
        raise ImageInvalid(f"the image cannot be shown: {_reason(error)}") from error
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    content = file.getvalue()
    if cache is not None:
        cache.put(KIND, key, [memoryview(content)])
    return content


def open_drawer(
    data_dir: Path, cache_dir: Path, cache_bytes: int
) -> Callable[[Asked, Callable[[object], None]], bytes]:
    """For a process beside the server: answers a path and a side with the picture, and keeps it."""
    cache = Cache(cache_dir, cache_bytes)

    def answer(asked: Asked, _: Callable[[object], None]) -> bytes:
        path, side = asked
        return draw(path, data_dir, side, cache)

    return answer


def _reason(error: Exception) -> str:
    """What is wrong, without the server's paths."""
    match error:
        case Undecodable():
            return _of_pillow(error)
        case Irregular():
            return "it is no regular file"
        case Outside():
            return "it leads out of the data root"
        case OSError():
            return error.strerror or "it cannot be read"
    return "it cannot be read"


def _of_pillow(error: Undecodable) -> str:
    """Its sentence, but of a file that it does not know, which it calls by its address in memory."""
    text = str(error)
    return "it is no image of a format that is read" if "cannot identify" in text else text
