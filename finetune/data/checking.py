"""The check of a dataset: its files looked at, its problems named, without torch and without a run."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from typing import Any

from finetune.data.dataset import list_dataset
from finetune.data.examination import Examination, Told, examine_dataset
from finetune.data.fingerprints import of_dataset
from finetune.data.judging import judge
from finetune.data.problems import DatasetCheck, Sizes


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
    seen = examine_dataset(data_dir, list_dataset(data_dir, path), checks_dir, told)
    return DatasetCheck(
        name=path,
        fingerprint=of_dataset(seen),
        images=sum(map(len, seen.listing.images.values())),
        sizes=_sizes(seen),
        problems=judge(seen),
        opened=seen.opened,
        known=seen.known,
        checked_at=time.time(),
    )


def _sizes(seen: Examination) -> Sizes | None:
    sizes = [(one.width, one.height) for one in seen.facts.values() if one.sound]
    if not sizes:
        return None
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    widths, heights = zip(*sizes, strict=True)
    return Sizes(by_area[0], (median_low(widths), median_low(heights)), by_area[-1])


def open_checker(
    data_dir: Path, checks_dir: Path
) -> Callable[[str, Callable[[object], None]], dict[str, Any]]:
    """For a process beside the server: answers a dataset's path with its check as JSON.

    Meanwhile it says (files looked at, files to look at).
    """

    def answer(path: str, tell: Callable[[object], None]) -> dict[str, Any]:
        return check_dataset(data_dir, path, checks_dir, lambda done, total: tell((done, total))).to_json()

    return answer
