"""Which variants of an experiment can be compared at all: pure functions of their specs."""

from collections.abc import Iterator, Sequence

from finetune.spec import Problem, ResolvedSpec
from finetune.spec.objectives import BinaryCrossEntropy, Triplet


def other_losses(names: Sequence[str], metric: str, specs: Sequence[ResolvedSpec]) -> Iterator[Problem]:
    """Losses can be compared where they are one function of what networks give."""
    if metric != "val_loss":
        return
    for index, spec in enumerate(specs):
        if _validation_loss(spec) != _validation_loss(specs[0]):
            message = (
                f"variant {names[index]!r} validates with another loss than {names[0]!r}: "
                "losses of different objectives cannot be compared, take another metric"
            )
            yield Problem(f"variants.{index}.patch.objective", message, "other_loss")


def _validation_loss(spec: ResolvedSpec) -> tuple[object, ...]:
    objective = spec.objective
    if isinstance(objective, Triplet):
        return ("triplet", objective.margin, objective.normalize)
    return ("binary",) if isinstance(objective, BinaryCrossEntropy) else ("cross-entropy",)


def same_runs(names: Sequence[str], specs: Sequence[ResolvedSpec]) -> Iterator[Problem]:
    """Variants that resolve to one spec."""
    for index, spec in enumerate(specs):
        if spec in specs[:index]:
            message = (
                f"gives the same run as variant {names[specs.index(spec)]!r}: there is nothing to compare"
            )
            yield Problem(f"variants.{index}.patch", message, "same_run")
