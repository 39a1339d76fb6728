"""The check of a dataset's files: what can be trained on, and what is wrong with the rest."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.data.dataset import Dataset, find_dataset, list_dataset
from finetune.data.decoding import undecodable
from finetune.data.facts import examine
from finetune.data.images import Images
from finetune.data.problems import DataProblem, DatasetCheck, file_problem
from finetune.errors import DatasetInvalid

Told = Callable[[int, int], None]


def check_dataset(
    data_dir: Path, path: str, checks_dir: Path | None, told: Told | None = None
) -> DatasetCheck:
    """Looks at all files of a dataset.

    Args:
        data_dir: what `path` is relative to.
        path: the dataset's folder or manifest.
        checks_dir: where what is known of files is kept for the next check; None keeps nothing.
        told: is told (files looked at, files to look at), a few times a second at most.

    Raises:
        DatasetNotFound: there is none.
    """
    listing = list_dataset(data_dir, path)
    found = find_dataset(data_dir, path)
    base = found if found.is_dir() else found.parent
    paths = [image.path for images in listing.images.values() for image in images]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        facts = dict(zip(paths, pool.map(examine, paths), strict=True))
    problems = [DataProblem("layout", "error", problem) for problem in listing.problems]
    for kind in ("unreadable", "not_an_image"):
        files = [p.relative_to(base).as_posix() for p in paths if facts[p].verdict == kind]
        if files:
            message = f"{len(files)} files are {kind}: mend or remove them"
            problems.append(file_problem(kind, "error", message, files))
    return DatasetCheck(
        name=path,
        fingerprint=None,
        images=len(paths),
        sizes=None,
        problems=tuple(problems),
        opened=len(paths),
        known=0,
        checked_at=time.time(),
    )


def open_checker(data_dir: Path, checks_dir: Path) -> Callable[[str, Callable[[object], None]], Any]:
    """For a process beside the server: answers a dataset's path with its check as JSON."""

    def answer(path: str, tell: Callable[[object], None]) -> dict[str, Any]:
        told: Told = lambda done, total: tell((done, total))  # noqa: E731  # one line, used once
        return check_dataset(data_dir, path, checks_dir, told).to_json()

    return answer


@dataclass(frozen=True)
class Checked:
    """How many images were decoded for the check, and how many had been before, as they are now."""

    decoded: int
    known: int


def check_files(dataset: Dataset, data_dir: Path, images: Images) -> Checked:
    """Decodes every image once, as one that cannot be decoded would end the run in the middle of an epoch.

    Raises:
        DatasetInvalid: some cannot be; the message names them. This is not kept: it may have been the disk
            or the memory, and not the file.
    """
    paths = [sample.path for sample in (*dataset.train, *dataset.val)]
    unknown = images.unknown(paths)
    bad = undecodable(unknown, images)
    if bad:
        root = data_dir.resolve()
        named = "; ".join(f"{path.relative_to(root)} ({reason})" for path, reason in bad[:10])
        more = f"; and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise DatasetInvalid(
            f"{len(bad)} files cannot be decoded, mend or remove them: {named}{more}", "dataset.path"
        )
    images.know(paths)
    return Checked(len(unknown), len(paths) - len(unknown))
