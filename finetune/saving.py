"""What a run writes at the end of an epoch, and what it removes."""

from typing import Any

import torch

from finetune import optimizers
from finetune.checkpoint import save_state, save_weights
from finetune.events import CheckpointFiles, EpochRecord
from finetune.retention import superseded
from finetune.run import Run
from finetune.spec.objectives import Triplet


def save(run: Run, record: EpochRecord, optimizer: torch.optim.Optimizer) -> CheckpointFiles:
    """Writes the weights and the state from which the run goes on.

    Raises:
        DiskFull: there is no room; what was there before is as it was.
    """
    metric = run.spec.metric
    value = record.val[metric.removeprefix("val_")]
    stem = f"epoch-{record.global_epoch:05d}"
    weights, state = run.folder / f"{stem}.safetensors", run.folder / f"{stem}.state.pt"
    sha256, size = save_weights(weights, run.model, _metadata(run, record))
    state_sha256, state_size = save_state(
        state,
        {
            "standing": run.standing.to_state(),
            "optimizer": optimizers.state_of(optimizer, run.model),
            "threads": torch.get_num_threads(),
            "surroundings": run.surroundings(),
        },
    )
    best = run.standing.best
    return CheckpointFiles(
        weights=weights,
        sha256=sha256,
        size=size,
        state=state,
        state_sha256=state_sha256,
        state_size=state_size,
        metric=metric,
        value=value,
        best=best is not None and best["global_epoch"] == record.global_epoch,
    )


def _metadata(run: Run, record: EpochRecord) -> dict[str, Any]:
    """All that a program needs to use the weights. Nothing in it differs when a run is repeated."""
    blueprint, objective = run.blueprint, run.spec.objective
    embeds = {"normalize": objective.normalize} if isinstance(objective, Triplet) else {}
    return {
        "backbone": blueprint.backbone.name,
        "backbone_options": blueprint.backbone.options(blueprint.preprocessing.crop),
        "classes": list(blueprint.classes),
        "objective": objective.name,
        "outputs": blueprint.head.outputs,
        "heads": list(blueprint.backbone.heads),
        **embeds,
        "preprocessing": blueprint.preprocessing.to_json(),
        "job": run.job or "",
        "stage": record.stage,
        "global_epoch": record.global_epoch,
        "val": record.val,
    }


def prune(run: Run, checkpoint: CheckpointFiles) -> None:
    """Removes the checkpoints of this run that `spec.checkpoints` does not keep after a new one."""
    run.kept.append(checkpoint)
    for old in superseded([(c, c.value) for c in run.kept], run.spec.checkpoints):
        old.weights.unlink(missing_ok=True)
        old.state.unlink(missing_ok=True)
        run.kept.remove(old)
