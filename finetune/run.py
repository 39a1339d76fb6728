"""A run made ready: data checked, network built, tables drawn up; and where it stands."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from finetune import compiling, objectives
from finetune import device as devices
from finetune.backbones import Registry
from finetune.cache import Cache
from finetune.checkpoint import BestFile, Resume, load_state, load_weights, put_back, stem_of
from finetune.compile_costs import Choice, KeptCosts
from finetune.compiling import Forward
from finetune.data.augmentation import View, evaluation_view, training_view
from finetune.data.dataset import Dataset, Sample, folder_of
from finetune.data.images import Images
from finetune.data.loading import Loader
from finetune.data.stored import needed_sizes
from finetune.data.vetting import Vetted, vet
from finetune.errors import DatasetInvalid, FinetuneError, SpecInvalid
from finetune.events import CheckpointFiles, EpochRecord, Progress
from finetune.feature_views import training_views
from finetune.features import Room
from finetune.feeds import FeatureFeed, Feed, ImageFeed, Source
from finetune.kept_features import FeatureStore, Filled
from finetune.loss_watch import LossWatch
from finetune.network import Blueprint, build, draw, preparations, resolve_with
from finetune.objectives import Objective
from finetune.plan import Plan, make_plan
from finetune.preflight import resolved_problems
from finetune.spec.augmentations import Light
from finetune.spec.job import JobSpec, ResolvedSpec
from finetune.spec.stages import StageSpec
from finetune.standing import Standing
from finetune.stepping import Stepper
from finetune.tables import StageTables, tables_of
from finetune.under_way import UnderWay

Found = TypeVar("Found")


@dataclass
class Run:
    """Everything that the loop works with. `standing` moves on with every epoch."""

    spec: ResolvedSpec
    folder: Path
    job: str | None
    dataset: Dataset
    blueprint: Blueprint
    plan: Plan
    tables: list[StageTables]
    objective: Objective
    compute: devices.Compute
    model: nn.Module
    data_workers: int
    images: Images
    vetted: Vetted
    features: FeatureStore
    compile_costs: KeptCosts
    data_folder: Path
    registry: Registry
    val: Source = field(init=False)
    standing: Standing = field(default_factory=Standing)
    kept: list[CheckpointFiles] = field(default_factory=list)
    best: BestFile | None = None
    compiled: bool | None = None  # whether the steps of the stage in which the run stands are
    filled_before: bool = False  # whether the stage that the run goes on in had its features computed once
    filled: Filled | None = None  # the stage's features, where they are computed once
    moved: bool = False  # the run began on another device, or in another precision, than it goes on with
    stage_best: dict[str, Tensor] | None = None  # the stage's best weights, where the next begins with them
    state: Path | None = None  # the file of the newest state within an epoch
    _stepper_state: dict[str, Any] | None = None
    _within: dict[str, Any] | None = None  # of the epoch in which the run goes on
    _epoch_seconds: list[float] = field(default_factory=list)

    def read(self, resume: Resume) -> dict[str, Any]:
        """The state of a checkpoint to go on from.

        Raises:
            WeightsIncompatible: it cannot be read.
            DatasetInvalid: the data is no longer what the run began with.
        """
        state = load_state(resume.state)
        was, now = state.pop("fingerprint"), self.vetted.fingerprint
        if was != now:
            raise DatasetInvalid(
                f"the data of {self.dataset.name!r} changed since the run began (its fingerprint was "
                f"{was[:12]}… and is {now[:12]}…): put back what was there, or begin anew with another job",
                "dataset.path",
            )
        return state

    def restore(self, resume: Resume, state: dict[str, Any]) -> Iterator[str]:
        """Goes back to where a checkpoint stands. Yields what is no longer as it was then."""
        if resume.weights is not None:
            load_weights(resume.weights, self.model)
        if state["raw"] is not None:  # the checkpoint holds the moving average, or there is none
            put_back(self.model, state["raw"])
        self.standing = Standing.from_state(state["standing"])
        self.best = self._best_of(resume)
        self._stepper_state, self.stage_best = state["stepper"], state["stage_best"]
        self._within = state.get("within")
        self.filled_before = state.get("features", False)
        self.compiled = state.get("compiled")  # absent where the run began before there was a choice
        torch.set_num_threads(state["threads"])
        now = self.surroundings()
        for name, was in state["surroundings"].items():
            if now[name] != was:
                self.moved = True
                yield f"the run began with {name} {was} and goes on with {now[name]}: its bytes may differ"

    def _best_of(self, resume: Resume) -> BestFile | None:
        if self.standing.best is None:
            return None
        epoch: int = self.standing.best["global_epoch"]
        beside = resume.state.with_name(f"{stem_of(epoch)}.safetensors")
        return BestFile(resume.best or beside, epoch, resume.best_sha256)

    def surroundings(self) -> dict[str, str]:
        """What the bytes of the result depend on besides spec and data."""
        return {
            "device": self.compute.device.type,
            "precision": self.compute.precision,
            "torch": str(torch.__version__),
        }

    def enter(self, index: int) -> None:
        """Goes to the start of a stage, with the weights that the one before hands on, or on within it."""
        if self.standing.is_within(index):
            return
        if index and self.stage_best is not None:
            self.model.load_state_dict(self.stage_best)
        self.stage_best = self.compiled = None
        self.filled_before = False
        self.standing = self.standing.enter(index)

    def stepper(self, table: StageTables) -> Stepper:
        """What the stage trains with; as it was, where the run goes on in the middle of a stage."""
        made = Stepper(self.model, table, self.blueprint, self.objective, self.compute)
        if (self.standing.epoch or self._within) and self._stepper_state is not None:
            made.restore(self._stepper_state)
        self._stepper_state = None
        return made

    @property
    def steps_done(self) -> int:
        """How many steps of the epoch that comes next were made before an interruption."""
        return self._within["step"] if self._within else 0

    def begin_epoch(self, index: int, table: StageTables, epoch: int) -> UnderWay:
        """An epoch (0-based) at its start, or where it was interrupted."""
        kept = self.standing.global_epoch
        watch = LossWatch(table.name, epoch + 1, self.steps_done, kept)
        begun = UnderWay(index, table, epoch, self.objective.tally(), watch)
        if self._within is not None:
            begun.go_on(self._within)
        self._within = None
        return begun

    def feed(self, index: int, table: StageTables) -> Feed:
        """What the stage's epochs run over."""
        view = training_view(
            table.stage.augmentation, self.blueprint.training_preprocessing, self.spec.preprocessing.stored
        )
        train = self.source(self.dataset.train, view)
        self.filled = None
        if table.features is not None:
            feed = self._feature_feed(index, table, train)
            if feed is not None:
                return feed
        return ImageFeed(self.model, train, self.val, table.sampling, self.spec.seed, index)

    def training_forward(self, table: StageTables, feed: Feed) -> tuple[Choice | None, Forward]:
        """The network's call for the stage's steps, and whether it is compiled; None where it cannot be.

        Raises:
            CompileFailed: the spec asks for it, and it does not work.
        """
        if compiling.obstacle(table) is not None:
            return None, feed.forward
        trial = compiling.Trial(
            model=self.model,
            freezing=table.freezing,
            compute=self.compute,
            backbone=(*self.blueprint.identity, self.blueprint.head.outputs),
            batch=len(table.sampling.batches(0)[0]),
            size=self.blueprint.training_preprocessing.crop,
            accumulate=table.stage.accumulate,
        )
        left = table.sampling.count * (table.stage.epochs - self.standing.epoch)
        return compiling.decide(self.spec.compile, trial, self.compile_costs, left, self.compiled)

    def _feature_feed(self, index: int, table: StageTables, train: Source) -> Feed | None:
        """Features, unless there is no room for them after all."""
        assert table.features is not None
        boundary, preprocessing = table.features.boundary, self.blueprint.training_preprocessing
        if isinstance(table.stage.augmentation, Light):  # its two views are made of the one without a flip
            train = self.source(
                self.dataset.train, evaluation_view(preprocessing, self.spec.preprocessing.stored)
            )
        views, chosen = training_views(table.stage, self.spec.seed, index)
        self.filled = self.features.fill(self.model, boundary, train, self.val, views, preprocessing.crop)
        if self.filled is None:
            return None
        splits = (self.filled.train, train), (self.filled.val, self.val)
        return FeatureFeed(boundary.suffix(self.model), *splits, table.sampling, chosen)

    def source(self, samples: Sequence[Sample], view: View) -> Source:
        """Samples as views on their way to the device."""
        pin = self.compute.device.type == "cuda"
        classes = len(self.dataset.classes)
        read = self.images.at(view.size, max(1, self.data_workers))
        loader = Loader(samples, view, self.spec.batch_size, self.data_workers, pin, classes, read)
        return Source(loader, self.blueprint.preprocessing, self.compute.device)

    def judged(self, record: EpochRecord) -> dict[str, float | None]:
        """The validation figures of what the epoch's checkpoint holds."""
        return self.of_checkpoint(record.val, record.val_ema)

    def of_checkpoint(self, of_weights: Found, of_average: Found | None) -> Found:
        """Of what the weights and their moving average (if any) gave: what checkpoints are made of."""
        if self.spec.checkpoints.weights == "ema" and of_average is not None:
            return of_average
        return of_weights

    def advance(self, record: EpochRecord, stage: StageSpec, *, learnt: bool) -> None:
        """Counts an epoch, after which the network is better than always giving one answer, or is not."""
        standing = self.standing.after_epoch(record, self.judged(record), stage, self.spec.metric)
        self.standing = replace(standing, stuck=0 if learnt else standing.stuck + 1)

    def count_seconds(self, seconds: float) -> None:
        """Counts the time that the epoch took on this machine."""
        if self.standing.epoch == 1:
            self._epoch_seconds.clear()
        self._epoch_seconds.append(seconds)

    def progress(self, index: int, table: StageTables, epoch: int, step: int, rate: float) -> Progress:
        """Where the run is after a step (0-based); `rate` is in images per second."""
        return Progress(
            stage=table.name,
            stage_index=index,
            stages=len(self.tables),
            epoch=epoch + 1,
            epochs=table.stage.epochs,
            step=step + 1,
            steps=table.steps_per_epoch,
            images_per_second=rate,
            seconds_left=self._seconds_left(index, table, epoch),
        )

    def _seconds_left(self, index: int, table: StageTables, epoch: int) -> float | None:
        """From the stage's mean epoch; unknown before its first one ended and before the last stage."""
        if index + 1 < len(self.tables) or epoch == 0 or not self._epoch_seconds:
            return None
        return sum(self._epoch_seconds) / len(self._epoch_seconds) * (table.stage.epochs - epoch)


def prepare(
    spec: JobSpec,
    folder: Path,
    *,
    data_dir: Path,
    weights_dir: Path,
    registry: Registry,
    device: str,
    data_workers: int,
    job: str | None,
    job_file: Path | None,
    cache: Cache | None,
    checks_dir: Path | None,
    feature_memory: int,
) -> Run:
    """Checks the data, builds the network, draws up the tables.

    Raises:
        FinetuneError: what keeps the run from starting.
    """
    resolved = resolve_with(registry, spec)
    problems = resolved_problems(resolved, registry)
    if problems:
        raise SpecInvalid(problems)
    images, keep = Images(cache, data_dir.resolve()), None
    if cache is not None:
        with suppress(FinetuneError):  # of the weights; said once the data have been looked at
            needed = needed_sizes(resolved, *preparations(resolved, registry, weights_dir, job_file))
            images, keep = replace(images, sizes=needed.all), partial(images.keeping, needed)
    vetted = vet(data_dir, resolved.dataset, resolved.seed, checks_dir, keep)
    images = replace(images, stamps=vetted.stamps)
    dataset = vetted.dataset
    blueprint = draw(resolved, registry, dataset.classes, weights_dir, job_file)
    compute = devices.choose(device, resolved.precision)
    room = Room(feature_memory, cache.budget if cache else 0)
    in_precision = resolved.model_copy(update={"precision": compute.precision})
    tables = tables_of(in_precision, blueprint, dataset, room)
    model = build(blueprint, resolved.seed, resolved.head.dropout)
    run = Run(
        spec=resolved,
        folder=folder,
        job=job,
        dataset=dataset,
        blueprint=blueprint,
        plan=make_plan(resolved, blueprint, dataset, tables),
        tables=tables,
        objective=objectives.build(resolved.objective, dataset, compute.device),
        compute=compute,
        model=model.to(compute.device).to(memory_format=torch.channels_last),
        data_workers=data_workers,
        images=images,
        vetted=vetted,
        features=FeatureStore(cache, images, blueprint.identity, compute, room, resolved.fold_batch_norm),
        compile_costs=KeptCosts(cache),
        data_folder=folder_of(data_dir, resolved.dataset.path),
        registry=registry,
    )
    if (
        resolved.compile == "on"
        and resolved.range_test is None
        and any(compiling.obstacle(table) is None for table in tables)
    ):
        compiling.check(compute)
    run.val = run.source(dataset.val, evaluation_view(blueprint.preprocessing, resolved.preprocessing.stored))
    return run
