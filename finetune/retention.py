"""Which checkpoints are kept: the last few, and the best few by the metric."""

from collections.abc import Sequence
from typing import TypeVar

from finetune.spec.job import CheckpointSpec
from finetune.spec.objectives import lower_is_better

Kept = TypeVar("Kept")


def superseded(checkpoints: Sequence[tuple[Kept, float | None]], spec: CheckpointSpec) -> list[Kept]:
    """The checkpoints to let go of, of all in the order in which they were written, each with its metric.

    Of equal values the earlier one is better, as it is for `best`.
    """
    sign = 1 if lower_is_better(str(spec.metric)) else -1
    ranked = sorted(
        (i for i, (_, value) in enumerate(checkpoints) if value is not None),
        key=lambda i: (sign * (checkpoints[i][1] or 0.0), i),
    )
    # The first checkpoint stands for the best where no epoch had a finite value.
    best = set(ranked[: spec.keep_best] or [0])
    last = set(range(len(checkpoints) - spec.keep_last, len(checkpoints)))
    return [name for i, (name, _) in enumerate(checkpoints) if i not in best | last]
