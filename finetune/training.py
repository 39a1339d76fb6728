"""The loop: a spec and a folder in, events out. It reads from top to bottom; it knows no database."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from finetune import freezing, range_test
from finetune.backbones import Registry
from finetune.cache import DEFAULT_BYTES, Cache
from finetune.checkpoint import Resume
from finetune.compiling import Forward
from finetune.epochs import record_of, train_epoch, validate
from finetune.errors import FinetuneError, OutOfMemory, SpecInvalid
from finetune.events import (
    CompileChosen,
    EpochEnded,
    Event,
    FeaturesReady,
    FilesSkipped,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    Warned,
)
from finetune.features import DEFAULT_MEMORY
from finetune.feeds import Feed
from finetune.heap import give_back_freed_memory
from finetune.learning import PATIENCE, alarm
from finetune.report.making import report_on
from finetune.run import Run, prepare
from finetune.saving import prune, save
from finetune.spec import find_problems
from finetune.spec.job import JobSpec, objective_of
from finetune.spec.objectives import Triplet
from finetune.stopping import Stopped, Stopping
from finetune.tables import StageTables

# What allocators say that have no error of their own for it: the CPU's, CUDA's, cuDNN's.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")


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
    cache_dir: str | Path | None = None,
    cache_bytes: int = DEFAULT_BYTES,
    checks_dir: str | Path | None = None,
    feature_memory_bytes: int = DEFAULT_MEMORY,
    stopping: Stopping | None = None,
) -> Iterator[Event]:
    """Fine-tunes a network as the spec says, and tells what happens as it happens.

    Checkpoints are written to `folder`, before the `EpochEnded` that names them, and so are states within
    epochs, before their `StateSaved`. When the caller asks for the next event, those that `spec.checkpoints`
    does not keep are removed, and so is the state before, unless `keep_all` is set.
    At the end the best one is loaded anew and evaluated once more; `report.json` in `folder` says what it
    gets right and wrong, `predictions.parquet` what it said of each validation image.

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
        cache_dir: where images and features are kept for other runs, and what compiling costs.
        cache_bytes: how large that may become; 0 keeps nothing.
        checks_dir: where what is known of the dataset's files is kept, so that other runs need not open them.
        feature_memory_bytes: how large a stage's features may be to stay in memory; larger ones are read from
            a file in `cache_dir`, if they fit. A stage whose features fit nowhere goes without them, which
            changes nothing in fp32 but for `feature_views`; see docs/features.md.
        stopping: what asks the run to end early. Within an epoch it saves a state after the step under way,
            says so with `StateSaved`, and there are no more events.

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
            cache=Cache(Path(cache_dir), cache_bytes) if cache_dir and cache_bytes else None,
            checks_dir=Path(checks_dir) if checks_dir else None,
            feature_memory=feature_memory_bytes,
        )
        yield from _run(run, resume, keep_all, stopping or Stopping())
    except Stopped:
        return
    except (torch.OutOfMemoryError, MemoryError) as error:
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


def _run(run: Run, resume: Resume | None, keep_all: bool, stopping: Stopping) -> Iterator[Event]:
    plan = run.plan.model_dump(mode="json")
    vetted, searches = run.vetted, run.spec.range_test is not None
    state = None if resume is None or searches else run.read(resume)
    yield RunStarted(
        plan,
        str(run.compute.device),
        run.compute.precision,
        vetted.opened,
        vetted.known,
        vetted.fingerprint,
    )
    if vetted.skipped:
        yield FilesSkipped(vetted.skipped)
    for warning in (*vetted.warnings, *run.plan.warnings):
        yield Warned(warning)
    if run.spec.range_test is not None:
        yield from range_test.search(run, run.spec.range_test)
        return
    if resume is not None and state is not None:
        for warning in run.restore(resume, state):
            yield Warned(warning)
    for index, table in enumerate(run.tables):
        if not run.standing.has_done(index):
            stopping.check()
            run.enter(index)
            yield from _stage(run, index, table, keep_all, stopping)
    stopping.check()
    yield from report_on(run)
    last = run.standing.last or {}
    figures: dict[str, Any] = {name: last[name] for name in ("train", "val", "val_ema") if name in last}
    yield RunEnded({"epochs": run.standing.global_epoch, **figures, "best": run.standing.best})


def _stage(run: Run, index: int, table: StageTables, keep_all: bool, stopping: Stopping) -> Iterator[Event]:
    stage, model = table.stage, run.model
    give_back_freed_memory()
    freezing.apply(model, table.freezing)
    stepper = run.stepper(table)
    guard = freezing.FrozenGuard(model, table.freezing)
    yield _started(run, index, table)
    feed = run.feed(index, table)
    yield from _features(run, index, table)
    forward = yield from _forward(run, index, table, feed)
    for number in range(run.standing.epoch, stage.epochs):
        stopping.check()
        run.compute.reset_peak()
        if run.filled is not None:
            run.features.touch(run.filled)
        freezing.set_training_mode(model, table.freezing)
        epoch = run.begin_epoch(index, table, number)
        clock, stopping.saves = epoch.clock, True
        yield from train_epoch(run, feed, forward, stepper, epoch, stopping, keep_all)
        guard.verify(table.name, number + 1)
        clock.lap("train")
        evaluations = yield from validate(run, feed, stepper, epoch, stopping, keep_all)
        clock.lap("val")
        record = record_of(run, epoch, evaluations)
        judged = run.of_checkpoint(*evaluations)
        run.advance(record, stage, learnt=judged.sign is None)
        checkpoint = save(run, record, stepper, judged.metadata)
        clock.lap("checkpoint")
        run.count_seconds(sum(clock.seconds.values()))
        yield EpochEnded(replace(record, seconds=clock.seconds), checkpoint)
        if not keep_all:
            prune(run, checkpoint)
        if judged.sign is not None and run.standing.stuck == PATIENCE:
            yield Warned(alarm(table.name, judged.sign, record.lr, judged.advice))
        if run.standing.stage_over:
            break
    stopping.saves = False
    run.filled = None  # with the memory of its features
    done = run.standing.epoch
    yield StageEnded(table.name, index, done, done < stage.epochs)


def _started(run: Run, index: int, table: StageTables) -> StageStarted:
    frozen = sum(run.model.get_parameter(name).numel() for name in table.freezing.parameters)
    return StageStarted(
        stage=table.name,
        stage_index=index,
        epoch=run.standing.epoch + 1,
        trained_parameters=table.trained_parameters,
        frozen_parameters=frozen,
        features_once=table.features_once,
        step=run.steps_done,
    )


def _forward(run: Run, index: int, table: StageTables, feed: Feed) -> Generator[Event, None, Forward]:
    """Decides on compiling the stage's steps. Returns the network's call for them."""
    began = run.compiled
    choice, forward = run.training_forward(table, feed)
    if choice is not None:
        run.compiled = choice.compiled
        yield CompileChosen(table.name, index, choice.compiled, choice.reason)
        if began and not choice.compiled:
            yield Warned("the run began compiled and goes on without: its bytes may differ")
    return forward


def _features(run: Run, index: int, table: StageTables) -> Iterator[Event]:
    """What became of the features of a stage that was to compute them once."""
    filled = run.filled
    if filled is not None:
        amounts = filled.views, filled.bytes, filled.kept
        yield FeaturesReady(table.name, index, filled.computed, filled.cached, *amounts)
    elif table.features is not None:
        yield Warned(
            f"stage {table.name!r} computes its features in each epoch: "
            f"there was no room for about {table.features.size} bytes of them"
        )
    if filled is None and run.filled_before:
        yield Warned("the stage began with features computed once: its bytes may differ from now on")
