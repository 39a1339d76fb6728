"""All files of a dataset, opened in threads where nothing is known of them yet."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune.data import kept_facts
from finetune.data.dataset import find_dataset
from finetune.data.facts import FileFacts, Keep, Stamp, examine, stamp_of
from finetune.data.listing import Listed, Listing
from finetune.data.paths import sendable

THREADS = 8
TELL_EVERY = 0.3  # seconds
SAVE_EVERY = 10.0  # seconds; what a process knew that is ended in a long check is not lost

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """A dataset's listing with what is known of its files.

    `opened` files were opened for this; `known` ones had been before and are as they were. `base` is the
    folder that names of files are relative to, `root` the data root.
    """

    listing: Listing
    facts: Mapping[Path, FileFacts]
    opened: int
    known: int
    base: Path
    root: Path

    def name(self, path: Path) -> str:
        """A file's path relative to the dataset's folder, as text that can be sent and printed."""
        below = path.relative_to(self.base if path.is_relative_to(self.base) else self.root)
        return sendable(below.as_posix())

    def sound(self) -> dict[str, tuple[Listed, ...]]:
        """The images that can be decoded, by split."""
        images = self.listing.images
        return {split: tuple(i for i in images[split] if self.facts[i.path].sound) for split in images}


def examine_dataset(
    data_dir: Path,
    listing: Listing,
    checks_dir: Path | None = None,
    told: Told | None = None,
    keep: Keep | None = None,
) -> Examination:
    """Looks at all files of a listing. See `check_dataset`; decoded images are given to `keep`.

    Raises:
        DatasetNotFound: the dataset was removed meanwhile.
    """
    root, found = data_dir.resolve(), find_dataset(data_dir, listing.name)
    file = kept_facts.file_of(checks_dir, root, listing.name) if checks_dir else None
    paths = list(dict.fromkeys(image.path for images in listing.images.values() for image in images))
    kept = kept_facts.load(file) if file else {}
    known = {path: kept[name] for path in paths if (name := _name(path, root)) in kept}
    facts = {path: one for path, one in known.items() if one.stamp == _stamp(path)}
    unknown = [path for path in paths if path not in facts]
    progress = _Progress(len(facts), len(paths), told, file, root)
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        for path, one in zip(unknown, pool.map(partial(examine, root=root, keep=keep), unknown), strict=True):
            facts[path] = one
            progress.note(facts)
    finally:
        pool.shutdown(cancel_futures=True)
        if unknown:
            progress.save(facts)
    base = found if found.is_dir() else found.parent
    return Examination(listing, facts, len(unknown), len(paths) - len(unknown), base, root)


class _Progress:
    """Tells how far a check is, and saves what it knows, both now and then."""

    def __init__(self, done: int, total: int, told: Told | None, file: Path | None, root: Path) -> None:
        self._done, self._total, self._told, self._file, self._root = done, total, told, file, root
        self._said, self._saved = -TELL_EVERY, time.monotonic()

    def note(self, facts: Mapping[Path, FileFacts]) -> None:
        """Counts a file."""
        self._done += 1
        now = time.monotonic()
        if self._told and (now - self._said >= TELL_EVERY or self._done == self._total):
            self._said = now
            self._told(self._done, self._total)
        if now - self._saved >= SAVE_EVERY:
            self.save(facts)
            self._saved = time.monotonic()

    def save(self, facts: Mapping[Path, FileFacts]) -> None:
        """Keeps all that is known, where anything is kept."""
        if self._file is not None:
            kept_facts.save(self._file, {_name(path, self._root): one for path, one in facts.items()})


def _name(path: Path, root: Path) -> str:
    return os.fspath(path.relative_to(root))


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
