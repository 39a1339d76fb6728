"""Where an attempt may go on: from rows to files."""

from collections.abc import Sequence
from pathlib import Path

from app.store.records import Checkpoint, State
from finetune.retention import best_of
from finetune.spec.job import CheckpointSpec
from worker.orders import ResumePoint


def points_of(
    found: Sequence[Checkpoint | State], every: Sequence[Checkpoint], keep: CheckpointSpec, artifacts: Path
) -> tuple[ResumePoint, ...]:
    """The points for an order, in the order of `found`. `every` has all checkpoints, oldest first."""
    return tuple(_point(one, best_at(one, every, keep), artifacts) for one in found)


def best_at(one: Checkpoint | State, every: Sequence[Checkpoint], keep: CheckpointSpec) -> Checkpoint | None:
    """The best checkpoint as of a point; None before the first epoch's end."""
    newest = one.seq if isinstance(one, Checkpoint) else one.after_seq
    return best_of([(checkpoint, checkpoint.value) for checkpoint in every if checkpoint.seq <= newest], keep)


def _point(one: Checkpoint | State, best: Checkpoint | None, artifacts: Path) -> ResumePoint:
    of_best = (artifacts / best.path, best.sha256) if best else (None, None)
    if isinstance(one, State):
        place = f"step {one.step} of epoch {one.global_epoch}"
        return ResumePoint(one.id, place, artifacts / one.path, one.sha256, None, None, *of_best)
    assert one.state_path is not None, "only such are asked for"
    weights = artifacts / one.path, one.sha256
    state = artifacts / one.state_path, one.state_sha256
    return ResumePoint(one.id, f"epoch {one.global_epoch}", *state, *weights, *of_best)
