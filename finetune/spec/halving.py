"""The same steps from batches half as large, for a job that ran out of memory. Knows no torch."""

from typing import Any

from finetune.spec.job import ResolvedSpec
from finetune.spec.objectives import Triplet
from finetune.spec.stages import MOST_ACCUMULATED


def halved(spec: ResolvedSpec) -> ResolvedSpec:
    """The spec with half the batch size and twice the batches a step, which is not halved once more.

    Each step has the images that it had, in the same order and at the same rates, and its loss is the same
    mean over all of them. What looks at a batch as a whole does so at half of it: BatchNorm and mixing.
    """
    stages = [stage.model_copy(update={"accumulate": 2 * stage.accumulate}) for stage in spec.stages]
    half = {"batch_size": spec.batch_size // 2, "stages": stages, "on_oom": "fail"}
    return spec.model_copy(update=half)


def halving_problem(spec: ResolvedSpec) -> str | None:
    """Why a spec's batches cannot be halved, or None where they can."""
    objective: Any = spec.objective
    if isinstance(objective, Triplet):
        return "would tear the triplets of a batch apart: take fewer classes_per_batch instead"
    if spec.batch_size % 2 or spec.batch_size < 4:
        return f"needs an even batch_size of 4 or more, and {spec.batch_size} is not"
    if any(2 * stage.accumulate > MOST_ACCUMULATED for stage in spec.stages):
        return f"doubles accumulate, which may be {MOST_ACCUMULATED:,} at most"
    return None
