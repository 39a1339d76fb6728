"""What a run writes at the end of an epoch, and what it removes."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from finetune.checkpoint import BestFile, save_state, save_weights, stem_of
from finetune.events import CheckpointFiles, EpochRecord
from finetune.modules import copy_of_state
from finetune.retention import superseded
from finetune.run import Run
from finetune.spec.objectives import Triplet
from finetune.stepping import Stepper


def save(run: Run, record: EpochRecord, stepper: Stepper, evaluation: Mapping[str, Any]) -> CheckpointFiles:
    """Writes the weights, or their moving average, and the state from which the run goes on.

    `evaluation` is what the validation found that using the outputs needs; it goes into the metadata.

    Raises:
        DiskFull: there is no room; what was there before is as it was.
    """
    metric = run.spec.metric
    value = run.judged(record)[metric.removeprefix("val_")]
    stem = stem_of(record.global_epoch)
    weights, state = run.folder / f"{stem}.safetensors", run.folder / f"{stem}.state.pt"
    average = run.of_checkpoint(None, stepper.average)
    raw = copy_of_state(run.model) if average else None
    with average.in_place_of(run.model) if average else nullcontext():
        sha256, size = save_weights(weights, run.model, _metadata(run, record, evaluation))
        _keep_for_the_next_stage(run)
    state_sha256, state_size = save_state(
        state,
        {
            "standing": run.standing.to_state(),
            "stepper": stepper.to_state(),
            "raw": raw,
            "stage_best": run.stage_best,
            "compiled": run.compiled,
            "features": run.filled is not None,
            "threads": torch.get_num_threads(),
            "surroundings": run.surroundings(),
            "fingerprint": run.vetted.fingerprint,
        },
    )
    best = run.standing.best
    is_best = best is not None and best["global_epoch"] == record.global_epoch
    if is_best:
        run.best = BestFile(weights, record.global_epoch, sha256, own=True)
    return CheckpointFiles(
        weights=weights,
        sha256=sha256,
        size=size,
        state=state,
        state_sha256=state_sha256,
        state_size=state_size,
        metric=metric,
        value=value,
        best=is_best,
    )


def _keep_for_the_next_stage(run: Run) -> None:
    """Keeps the weights where the next stage begins with this one's best, and these are that so far."""
    if run.tables[run.standing.stage_index].stage.restore != "best":
        return
    if run.stage_best is None or run.standing.is_stage_best:
        run.stage_best = copy_of_state(run.model)


def _metadata(run: Run, record: EpochRecord, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """All that a program needs to use the weights. Nothing in it differs when a run is repeated."""
    blueprint, objective = run.blueprint, run.spec.objective
    embeds = {"normalize": objective.normalize} if isinstance(objective, Triplet) else {}
    return {
        "backbone": blueprint.backbone.name,
        "backbone_options": blueprint.backbone.options(blueprint.preprocessing.crop),
        "objective": objective.name,
        "outputs": blueprint.head.outputs,
        "heads": list(blueprint.backbone.heads),
        "classes": list(blueprint.classes),
        **embeds,
        "preprocessing": blueprint.preprocessing.to_json(),
        "job": run.job or "",
        "dataset": run.vetted.fingerprint,
        "stage": record.stage,
        "global_epoch": record.global_epoch,
        "val": run.judged(record),
        **evaluation,
    }


def prune(run: Run, checkpoint: CheckpointFiles) -> None:
    """Removes the checkpoints of this run that `spec.checkpoints` does not keep after a new one."""
    run.kept.append(checkpoint)
    for old in superseded([(c, c.value) for c in run.kept], run.spec.checkpoints):
        old.weights.unlink(missing_ok=True)
        old.state.unlink(missing_ok=True)
        run.kept.remove(old)
