"""What a run writes at the end of an epoch and within it, and what it removes."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from finetune import disk as disks
from finetune.checkpoint import BestFile, save_state, save_weights, stem_of
from finetune.errors import DiskFull
from finetune.events import CheckpointFiles, EpochRecord, StateSaved
from finetune.modules import copy_of_state
from finetune.retention import superseded
from finetune.run import Run
from finetune.spec.objectives import Triplet
from finetune.stepping import Stepper
from finetune.under_way import UnderWay

Written = tuple[str, int]  # a file's SHA-256, and its size in bytes


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
        metadata = _metadata(run, record, evaluation)
        sha256, size = with_room(run, lambda: save_weights(weights, run.model, metadata))
        _keep_for_the_next_stage(run)
    content = {**_state(run, stepper), "raw": raw}
    state_sha256, state_size = with_room(run, lambda: save_state(state, content))
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


def save_within(run: Run, stepper: Stepper, epoch: UnderWay) -> StateSaved:
    """Writes the state from which the run goes on in the middle of an epoch.

    Raises:
        DiskFull: there is no room; what was there before is as it was.
        NonfiniteLoss: a loss of the epoch was NaN or infinite; nothing is written.
    """
    epoch.watch.finish()
    global_epoch = run.standing.global_epoch + 1
    path = run.folder / f"{stem_of(global_epoch, epoch.step)}.state.pt"
    raw = {name: tensor.detach() for name, tensor in run.model.state_dict().items()}
    content = {**_state(run, stepper), "raw": raw, "within": epoch.to_state()}
    sha256, size = with_room(run, lambda: save_state(path, content))
    place = (epoch.table.name, epoch.index, epoch.epoch + 1, global_epoch, epoch.step)
    return StateSaved(*place, path, sha256, size)


def _state(run: Run, stepper: Stepper) -> dict[str, Any]:
    return {
        "standing": run.standing.to_state(),
        "stepper": stepper.to_state(),
        "stage_best": run.stage_best,
        "compiled": run.compiled,
        "features": run.filled is not None,
        "threads": torch.get_num_threads(),
        "surroundings": run.surroundings(),
        "fingerprint": run.vetted.fingerprint,
    }


def with_room(run: Run, write: Callable[[], Written]) -> Written:
    """Writes; where there is no room, once more without what the cache has not needed for longest."""
    try:
        return write()
    except DiskFull as error:
        if run.images.cache is not None:
            run.images.cache.shrink(error.needed or 0)
        return write()


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


def replace_state(run: Run, saved: StateSaved | None) -> None:
    """Removes the run's earlier state within an epoch, whose place a newer one or a checkpoint has taken."""
    if run.state is not None and (saved is None or run.state != saved.state):
        disks.disk.remove(run.state)
    run.state = saved.state if saved else None


def prune(run: Run, checkpoint: CheckpointFiles) -> None:
    """Removes the checkpoints of this run that `spec.checkpoints` does not keep after a new one."""
    replace_state(run, None)
    run.kept.append(checkpoint)
    for old in superseded([(c, c.value) for c in run.kept], run.spec.checkpoints):
        disks.disk.remove(old.weights)
        disks.disk.remove(old.state)
        run.kept.remove(old)
