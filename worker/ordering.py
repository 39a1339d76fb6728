"""What an attempt needs, looked up: the settings' folders, where it may go on, what it begins with."""

from collections.abc import Sequence
from pathlib import Path

from app.settings import Settings
from app.store import checkpoints, resuming
from app.store.database import Database
from app.store.records import Checkpoint, Claim, State
from finetune.retention import best_of
from finetune.spec.job import BackboneSpec, CheckpointSpec, JobWeights
from worker.orders import Order, ResumePoint


def order_for(claim: Claim, settings: Settings, db: Database) -> Order:
    """The order for the attempt that holds a job."""
    artifacts = settings.artifacts_dir
    job_file = _job_file(claim, db)
    return Order(
        job=claim.job_id,
        attempt=claim.attempt,
        spec=claim.resolved_spec,
        folder=artifacts / claim.job_id / f"attempt-{claim.attempt}",
        data_dir=settings.data_dir,
        weights_dir=settings.weights_dir,
        backbones=settings.backbones,
        device=settings.device,
        data_workers=settings.data_workers,
        points=_points(claim, db, artifacts),
        job_file=artifacts / job_file.path if job_file else None,
        job_file_sha256=job_file.sha256 if job_file else None,
        cache_dir=settings.cache_dir,
        cache_bytes=settings.cache_bytes,
        checks_dir=settings.checks_dir,
        feature_memory_bytes=settings.feature_memory_bytes,
    )


def best_at(
    point: Checkpoint | State, every: Sequence[Checkpoint], keep: CheckpointSpec
) -> Checkpoint | None:
    """The best of all checkpoints as of a point; None before the first epoch's end."""
    newest = point.seq if isinstance(point, Checkpoint) else point.after_seq
    return best_of([(checkpoint, checkpoint.value) for checkpoint in every if checkpoint.seq <= newest], keep)


def _points(claim: Claim, db: Database, artifacts: Path) -> tuple[ResumePoint, ...]:
    every = checkpoints.list_checkpoints(db, claim.job_id)
    keep = CheckpointSpec.model_validate(claim.resolved_spec["checkpoints"])
    return tuple(_point(one, best_at(one, every, keep), artifacts) for one in resuming.list_points(db, claim))


def _point(one: Checkpoint | State, best: Checkpoint | None, artifacts: Path) -> ResumePoint:
    of_best = (artifacts / best.path, best.sha256) if best else (None, None)
    if isinstance(one, State):
        place = f"step {one.step} of epoch {one.global_epoch}"
        return ResumePoint(one.id, place, artifacts / one.path, one.sha256, None, None, *of_best)
    assert one.state_path is not None, "only such are asked for"
    state = artifacts / one.state_path, one.state_sha256
    return ResumePoint(
        one.id, f"epoch {one.global_epoch}", *state, artifacts / one.path, one.sha256, *of_best
    )


def _job_file(claim: Claim, db: Database) -> Checkpoint | None:
    weights = BackboneSpec.model_validate(claim.resolved_spec["backbone"]).weights
    if not isinstance(weights, JobWeights):
        return None
    return checkpoints.get_checkpoint(db, weights.job, weights.checkpoint)
