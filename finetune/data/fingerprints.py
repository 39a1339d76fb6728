"""What tells a file from what it was before, without opening it; and what tells a dataset from others."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from finetune.cache import key_of
from finetune.data.dataset import Sample
from finetune.data.examination import Examination
from finetune.data.facts import stamp_of


def of_file(path: Path, root: Path) -> str:
    """Of a file below the data root: where it is, its size, when its content and when its inode changed.

    Raises:
        OSError: there is no such file.
    """
    return of_stat(path, path.stat(), root)


def of_stat(path: Path, found: os.stat_result, root: Path) -> str:
    """Of a file that has been looked at; see `of_file`."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return key_of(str(name), *stamp_of(found))


def of_samples(
    samples: Iterable[Sample], root: Path, look: Callable[[Path], os.stat_result] = Path.stat
) -> str:
    """Of a split: its files in order, each with its label. Weights change nothing of what is computed of it.

    `look` says what a file is now, and raises what it likes.

    Raises:
        OSError: a file is not there.
    """
    return key_of([(of_stat(sample.path, look(sample.path), root), sample.label) for sample in samples])


def of_dataset(examination: Examination) -> str | None:
    """Of what can be trained on: SHA-256 over each sound image in order, with all that is said about it.

    That is its split as listed, its path in the dataset's folder, its labels, its weight, and the SHA-256 of
    its content: it depends neither on where the dataset lies nor on when it was copied. None
    where there is nothing to train on.
    """
    sound = examination.sound()
    if examination.listing.problems or not any(sound.values()):
        return None
    digest = hashlib.sha256(b"labels" if examination.listing.multi_label else b"label")
    for split, images in sound.items():
        for image in images:
            name, content = examination.name(image.path), examination.facts[image.path].sha256
            digest.update(repr((split, name, image.labels, image.weight, content)).encode())
    return digest.hexdigest()
