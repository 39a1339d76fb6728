"""The loop: a spec and a folder in, events out. It reads from top to bottom; it knows no database."""

import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune import freezing, optimizers
from finetune.backbones import Registry
from finetune.checkpoint import Resume
from finetune.errors import FinetuneError, NonfiniteLoss, OutOfMemory, SpecInvalid
from finetune.events import (
    EpochEnded,
    EpochRecord,
    Event,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    Warned,
)
from finetune.feeds import Feed
from finetune.learning import PATIENCE, alarm
from finetune.network import logits_and_auxiliary
from finetune.plan import StageTables
from finetune.run import Run, prepare
from finetune.saving import prune, save
from finetune.seeds import derive
from finetune.spec import find_problems
from finetune.spec.job import JobSpec, objective_of
from finetune.spec.objectives import Triplet

# What allocators say that have no error of their own for it: the CPU's, CUDA's, cuDNN's.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")
LOSS_CHECK_EVERY = 20  # steps; a look at the loss waits for the device


def train(
    spec: JobSpec | Mapping[str, Any],
    folder: str | Path,
    *,
    data_dir: str | Path = ".",
    weights_dir: str | Path = ".",
    registry: Registry | None = None,
    device: str = "auto",
    data_workers: int = 0,
    resume: Resume | None = None,
    job: str | None = None,
    job_file: Path | None = None,
    keep_all: bool = False,
) -> Iterator[Event]:
    """Fine-tunes a network as the spec says, and tells what happens as it happens.

    Checkpoints are written to `folder`, before the `EpochEnded` that names them. When the caller asks for
    the next event, those that `spec.checkpoints` does not keep are removed, unless `keep_all` is set.

    Args:
        spec: a `JobSpec`, or its JSON as a dictionary.
        folder: where checkpoints go; made if it is not there.
        data_dir: what `dataset.path` is relative to.
        weights_dir: what `backbone.weights.file` is relative to.
        registry: backbones beside torchvision's.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        data_workers: processes that decode and augment; the result does not depend on it.
        resume: the checkpoint of an interrupted run of the same spec, to go on from.
        job: what the checkpoints name as their job.
        job_file: the checkpoint that `backbone.weights.job` stands for.
        keep_all: leave the removing of checkpoints to the caller.

    Raises:
        FinetuneError: one of the tree in `finetune.errors`, before training or in it.
    """
    parsed = _parse(spec)
    try:
        run = prepare(
            parsed,
            Path(folder),
            data_dir=Path(data_dir),
            weights_dir=Path(weights_dir),
            registry=registry or Registry(),
            device=device,
            data_workers=data_workers,
            job=job,
            job_file=job_file,
        )
        yield from _run(run, resume, keep_all)
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(parsed) from error
    except RuntimeError as error:
        if any(text in str(error) for text in OUT_OF_MEMORY):
            raise _out_of_memory(parsed) from error
        raise


def _parse(spec: JobSpec | Mapping[str, Any]) -> JobSpec:
    if isinstance(spec, JobSpec):
        return spec
    problems = find_problems(spec)
    if problems:
        raise SpecInvalid(problems)
    return JobSpec.model_validate(spec)


def _out_of_memory(spec: JobSpec) -> FinetuneError:
    objective = objective_of(spec.objective, spec.recipe)
    if isinstance(objective, Triplet):
        return OutOfMemory(
            f"a step with {objective.classes_per_batch} classes of {objective.images_per_class} images each, "
            "or a validation batch, did not fit into memory: take fewer, or smaller images",
            "objective.classes_per_batch",
        )
    return OutOfMemory(
        f"a step with batch_size {spec.batch_size} did not fit into memory: "
        "take a smaller one, or smaller images",
        "batch_size",
    )


def _run(run: Run, resume: Resume | None, keep_all: bool) -> Iterator[Event]:
    plan = run.plan.model_dump(mode="json")
    yield RunStarted(plan, str(run.compute.device), run.compute.precision)
    for warning in run.plan.warnings:
        yield Warned(warning)
    if resume is not None:
        for warning in run.restore(resume):
            yield Warned(warning)
    for index, table in enumerate(run.tables):
        if run.standing.has_done(index):
            continue
        run.standing = run.standing.enter(index)
        yield from _stage(run, index, table, keep_all)
    last = run.standing.last or {}
    yield RunEnded(
        {
            "epochs": run.standing.global_epoch,
            "train": last.get("train"),
            "val": last.get("val"),
            "best": run.standing.best,
        }
    )


def _stage(run: Run, index: int, table: StageTables, keep_all: bool) -> Iterator[Event]:
    stage, model = table.stage, run.model
    freezing.apply(model, table.freezing)
    optimizer = optimizers.build(stage.optimizer, model, table.grouping.groups)
    optimizers.restore(optimizer, model, run.take_optimizer_state())
    guard = freezing.FrozenGuard(model, table.freezing)
    frozen = sum(model.get_parameter(name).numel() for name in table.freezing.parameters)
    yield StageStarted(
        table.name, index, run.standing.epoch + 1, table.trained_parameters, frozen, table.features_once
    )
    feed = run.feed(index, table)
    for epoch in range(run.standing.epoch, stage.epochs):
        run.compute.reset_peak()
        freezing.set_training_mode(model, table.freezing)
        clock = _Clock()
        train = yield from _epoch(run, index, table, feed, optimizer, epoch, clock)
        guard.verify(table.name, epoch + 1)
        clock.lap("train")
        model.eval()
        evaluation = run.objective.evaluate(feed.forward, feed.val())
        clock.lap("val")
        record = _record(run, index, table, epoch, train, evaluation.figures, clock)
        run.advance(record, stage, learnt=evaluation.sign is None)
        checkpoint = save(run, record, optimizer)
        clock.lap("checkpoint")
        run.count_seconds(sum(clock.seconds.values()))
        yield EpochEnded(replace(record, seconds=clock.seconds), checkpoint)
        if not keep_all:
            prune(run, checkpoint)
        if evaluation.sign is not None and run.standing.stuck == PATIENCE:
            yield Warned(alarm(table.name, evaluation.sign, record.lr, evaluation.advice))
        if run.standing.stage_over:
            break
    done = run.standing.epoch
    yield StageEnded(table.name, index, done, done < stage.epochs)


def _epoch(
    run: Run,
    index: int,
    table: StageTables,
    feed: Feed,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    clock: "_Clock",
) -> Generator[Event, None, dict[str, float]]:
    """Trains one epoch. Returns its mean loss and accuracy."""
    stage, spec = table.stage, run.spec
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    tally, losses, steps = run.objective.tally(), list[Tensor](), table.steps_per_epoch
    for step, (inputs, labels) in enumerate(clock.timed(feed.train(epoch))):
        rates = table.rates(epoch, step)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        torch.manual_seed(derive(spec.seed, "step", index, epoch, step))
        with run.compute.autocast():
            logits, auxiliary = logits_and_auxiliary(feed.forward(inputs))
            loss = run.objective.loss(logits, labels)
            for output in auxiliary:
                loss = loss + run.blueprint.backbone.aux_weight * run.objective.loss(output, labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if stage.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(trained, stage.max_grad_norm)
        optimizer.step()
        tally.add(loss, logits, labels)
        losses.append(loss.detach())
        if len(losses) == LOSS_CHECK_EVERY or step + 1 == steps:
            _check_finite(losses, table.name, epoch, step)
            losses.clear()
        yield run.progress(index, table, epoch, step, clock.images(len(labels)))
    optimizer.zero_grad(set_to_none=True)
    return tally.figures()


def _check_finite(losses: list[Tensor], stage: str, epoch: int, last_step: int) -> None:
    finite = torch.isfinite(torch.stack(losses))
    if not bool(finite.all()):
        step = last_step - len(losses) + 1 + int((~finite).nonzero()[0])
        raise NonfiniteLoss(
            f"the loss became NaN or infinite in stage {stage!r}, epoch {epoch + 1}, step {step + 1}: "
            "a smaller learning rate, a warm-up or max_grad_norm usually helps"
        )


def _record(
    run: Run,
    index: int,
    table: StageTables,
    epoch: int,
    train: dict[str, float],
    val: dict[str, float],
    clock: "_Clock",
) -> EpochRecord:
    figures = [*train.values(), *val.values()]
    return EpochRecord(
        stage=table.name,
        stage_index=index,
        epoch=epoch + 1,
        global_epoch=run.standing.global_epoch + 1,
        lr=table.rates(epoch, 0),
        train=_finite(train),
        val=_finite(val),
        images_per_second=clock.rate(),
        seconds={},
        peak_memory_bytes=run.compute.peak_memory_bytes(),
        nonfinite=not all(map(math.isfinite, figures)),
    )


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


class _Clock:
    """Where an epoch's time goes, in seconds."""

    def __init__(self) -> None:
        self.seconds = {"data": 0.0, "train": 0.0, "val": 0.0, "checkpoint": 0.0}
        self._start = self._last = time.perf_counter()
        self._images = 0

    def timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Counts the waiting for batches as `data`, the time between them as `train`."""
        for batch in batches:
            self.lap("data")
            yield batch
            self.lap("train")

    def lap(self, part: str) -> None:
        """Adds the time since the last lap to a part."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    def images(self, count: int) -> float:
        """Counts trained images; gives their number per second so far."""
        self._images += count
        return self._images / (time.perf_counter() - self._start)

    def rate(self) -> float:
        """Trained images per second of data and training."""
        return self._images / (self.seconds["data"] + self.seconds["train"])
