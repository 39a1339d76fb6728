"""What tells a file from what it was before, and a dataset too, without opening anything."""

from collections.abc import Iterable
from pathlib import Path

from finetune.cache import key_of
from finetune.data.dataset import Sample


def of_file(path: Path, root: Path) -> str:
    """Of a file below the data root: where it is, its size, when its content and when its inode changed.

    The inode's time catches what sets the content's time back, as `cp -p` and `rsync -t` do.

    Raises:
        OSError: there is no such file.
    """
    found = path.stat()
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return key_of(str(name), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def of_files(paths: Iterable[Path], root: Path) -> str:
    """Of files in any order.

    Raises:
        OSError: one of them is not there.
    """
    return key_of(sorted(of_file(path, root) for path in paths))


def of_samples(samples: Iterable[Sample], root: Path) -> str:
    """Of a split: its files in order, each with its label. Weights change nothing of what is computed of it.

    Raises:
        OSError: a file is not there.
    """
    return key_of([(of_file(sample.path, root), sample.label) for sample in samples])
