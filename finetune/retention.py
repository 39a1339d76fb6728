"""Which checkpoints are kept: the last few, and the best few by the metric."""

from collections.abc import Sequence
from typing import TypeVar

from finetune.spec.job import CheckpointSpec
from finetune.spec.objectives import lower_is_better

Kept = TypeVar("Kept")
Written = Sequence[tuple[Kept, float | None]]  # in the order in which they were written, each with its metric


def superseded(checkpoints: Written[Kept], spec: CheckpointSpec) -> list[Kept]:
    """The checkpoints to let go of.

    Of equal values the earlier one is better, as it is for `best`.
    """
    best = set(_ranked(checkpoints, spec)[: spec.keep_best])
    last = set(range(len(checkpoints) - spec.keep_last, len(checkpoints)))
    return [name for i, (name, _) in enumerate(checkpoints) if i not in best | last]


def long_superseded(checkpoints: Written[Kept], spec: CheckpointSpec) -> list[Kept]:
    """Those of the superseded that were so before the newest checkpoint came, too.

    While a job runs, the others stay: should the newest one be damaged, it goes on from where it was before.
    """
    before = superseded(checkpoints[:-1], spec)
    return [name for name in superseded(checkpoints, spec) if name in before]


def best_of(checkpoints: Written[Kept], spec: CheckpointSpec) -> Kept | None:
    """The best checkpoint; None where there is none at all."""
    ranked = _ranked(checkpoints, spec)
    return checkpoints[ranked[0]][0] if ranked else None


def _ranked(checkpoints: Written[Kept], spec: CheckpointSpec) -> list[int]:
    sign = 1 if lower_is_better(str(spec.metric)) else -1
    ranked = sorted(
        (i for i, (_, value) in enumerate(checkpoints) if value is not None),
        key=lambda i: (sign * (checkpoints[i][1] or 0.0), i),
    )
    # The first checkpoint stands for the best where no epoch had a finite value.
    return ranked or [0][: len(checkpoints)]
