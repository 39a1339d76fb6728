"""The plan: what a spec would do, stage by stage, without training. The same tables drive the loop."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from finetune.compiling import obstacle
from finetune.data.dataset import Dataset, weights_of
from finetune.data.stored import StoredSize, needed_sizes
from finetune.freezing import BATCH_NORM, alternates
from finetune.head import Action
from finetune.modules import summarize
from finetune.network import Blueprint
from finetune.spec.job import ResolvedSpec
from finetune.spec.stages import StageSpec
from finetune.tables import StageTables


class PlanPart(BaseModel):
    """A part of a plan."""

    model_config = ConfigDict(frozen=True)


class FrozenModule(PlanPart):
    """A frozen module and the parameters in it."""

    module: str
    parameters: int


class PlannedGroup(PlanPart):
    """A parameter group: where its tensors are and what its rate is multiplied with."""

    name: str
    modules: list[str]
    tensors: int
    parameters: int
    factor: float
    weight_decay: float


class EpochRates(PlanPart):
    """Each group's learning rate at the first and at the last step of an epoch (from 1)."""

    epoch: int
    first: dict[str, float]
    last: dict[str, float]


class PlannedFeatures(PlanPart):
    """What is computed once: what the network gives `before` a module, for the views of these images.

    `bytes` are as many as there may be in the job's precision, `kept` in "memory" or on "disk". `saving` is
    the share of the stage's multiply-adds that is not done again in each epoch.
    """

    before: str
    views: int
    train_images: int
    val_images: int
    bytes: int
    kept: Literal["memory", "disk"]
    saving: float


class PlannedStage(PlanPart):
    """What a stage does."""

    name: str
    epochs: int
    steps_per_epoch: int
    batch_norm: str
    augmentation: str
    optimizer: str
    features_once: bool
    compile: Literal["auto", "on", "off"] = "auto"
    features: PlannedFeatures | None
    frozen: list[FrozenModule]
    frozen_parameters: int
    trained_parameters: int
    options: list[str]
    groups: list[PlannedGroup]
    lr: list[EpochRates]


class PlannedHead(PlanPart):
    """What becomes of the head: of which classes its rows are kept, and of which they are new."""

    modules: list[str]
    action: Action
    reason: str
    classes: int
    outputs: int | None
    kept: list[str]
    new: list[str]


class StoredImages(PlanPart):
    """How decoded images of a split are kept: at which short side in pixels, and about how many bytes.

    Both are null where they are kept as they are: no image is opened for a plan.
    """

    split: Literal["train", "val"]
    short_side: int | None
    bytes: int | None


class Plan(PlanPart):
    """A spec's plan."""

    object: Literal["fine_tuning.plan"] = "fine_tuning.plan"
    backbone: dict[str, Any]
    objective: str
    metric: str
    classes: list[str]
    images: dict[str, int]
    head: PlannedHead
    preprocessing: dict[str, Any]
    training_preprocessing: dict[str, Any]
    stored: list[StoredImages]
    stages: list[PlannedStage]
    warnings: list[str]


def make_plan(spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset, tables: list[StageTables]) -> Plan:
    """What the tables of a spec say, for people and programs."""
    model, backbone, head = blueprint.skeleton, blueprint.backbone, blueprint.head
    objective: Any = spec.objective
    return Plan(
        backbone={"name": backbone.name, "parameters": sum(p.numel() for p in model.parameters())},
        objective=_phrase(objective.model_dump()) + _weighing(dataset),
        metric=spec.metric,
        classes=list(blueprint.classes),
        images={"train": len(dataset.train), "val": len(dataset.val)},
        head=PlannedHead(
            modules=list(backbone.heads),
            action=head.action,
            reason=head.reason,
            classes=len(blueprint.classes),
            outputs=head.outputs,
            kept=list(head.kept),
            new=list(head.new),
        ),
        preprocessing=blueprint.preprocessing.to_json(),
        training_preprocessing=blueprint.training_preprocessing.to_json(),
        stored=_stored(spec, blueprint, dataset),
        stages=[_planned(spec, table, blueprint) for table in tables],
        warnings=_warnings(spec, blueprint, dataset, tables),
    )


def _stored(spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset) -> list[StoredImages]:
    needed = needed_sizes(spec, blueprint.preprocessing, blueprint.training_preprocessing)
    splits: tuple[tuple[Literal["train", "val"], int, frozenset[StoredSize]], ...] = (
        ("train", len(dataset.train), needed.train),
        ("val", len(dataset.val), needed.val),
    )
    return [
        StoredImages(
            split=split, short_side=size.side, bytes=None if size.bytes is None else count * size.bytes
        )
        for split, count, sizes in splits
        for size in sorted(sizes, key=lambda size: size.side or 0)
    ]


def _weighing(dataset: Dataset) -> str:
    """How the dataset weighs its training images, if it does."""
    weights = weights_of(dataset.train)
    return f", images weighed by {min(weights):g} to {max(weights):g}" if weights else ""


def _planned(spec: ResolvedSpec, table: StageTables, blueprint: Blueprint) -> PlannedStage:
    stage, model, freezing = table.stage, blueprint.skeleton, table.freezing
    frozen = summarize(model, freezing.modules)
    return PlannedStage(
        name=table.name,
        epochs=stage.epochs,
        steps_per_epoch=table.steps_per_epoch,
        batch_norm=_batch_norm(table, blueprint),
        augmentation=_phrase(stage.augmentation.model_dump()),
        optimizer=_phrase(stage.optimizer.model_dump(exclude={"decay_norms_and_biases"})),
        features_once=table.features_once,
        compile="off" if obstacle(table) or spec.range_test else spec.compile,
        features=_features(table),
        frozen=[FrozenModule(module=name, parameters=count) for name, count in frozen.items()],
        frozen_parameters=sum(frozen.values()),
        trained_parameters=table.trained_parameters,
        options=[*table.sampling.said, *_options(stage), *_anew(table)],
        groups=[
            PlannedGroup(
                name=group.name,
                modules=list(group.modules),
                tensors=len(group.parameters),
                parameters=group.count,
                factor=group.factor,
                weight_decay=stage.optimizer.weight_decay if group.decays else 0.0,
            )
            for group in table.grouping.groups
        ],
        lr=[
            EpochRates(
                epoch=epoch + 1,
                first=table.rates(epoch, 0),
                last=table.rates(epoch, table.steps_per_epoch - 1),
            )
            for epoch in range(stage.epochs)
        ],
    )


def _features(table: StageTables) -> PlannedFeatures | None:
    found = table.features
    if found is None:
        return None
    return PlannedFeatures(
        before=found.boundary.before,
        views=found.views,
        train_images=found.train_images,
        val_images=found.val_images,
        bytes=found.size,
        kept=found.kept,
        saving=round(found.saving, 3),
    )


def _anew(table: StageTables) -> list[str]:
    """Why a stage with a frozen part computes it in each epoch, where one might expect otherwise."""
    if table.anew_because is None or not table.freezing.parameters:
        return []
    return [f"features computed in each epoch: {table.anew_because}"]


def _options(stage: StageSpec) -> list[str]:
    """What a stage does beside the usual, each in a phrase."""
    said = []
    if not stage.optimizer.decay_norms_and_biases:
        said.append("no weight decay on norms and biases")
    if stage.mix is not None:
        said.append(_phrase(stage.mix.model_dump()))
    if stage.sampler != "shuffle":
        said.append(f"{stage.sampler} sampler")
    if stage.accumulate > 1:
        said.append(f"a step for every {stage.accumulate} batches")
    if stage.ema is not None:
        said.append(f"moving average of the weights (decay {stage.ema.decay:g})")
    if stage.max_grad_norm is not None:
        said.append(f"gradient clipped at {stage.max_grad_norm:g}")
    if stage.gradient_checkpointing:
        said.append("gradient checkpointing")
    if stage.early_stopping is not None:
        said.append(
            f"stops after {stage.early_stopping.patience} epochs without better {stage.early_stopping.metric}"
        )
    if stage.restore == "best":
        said.append("the next stage begins with this one's best weights")
    return said


def _phrase(fields: Mapping[str, Any]) -> str:
    """`sgd (momentum 0.9, nesterov)`: the name, and the fields that say something."""
    said = [
        key if value is True else f"{key} {value}"
        for key, value in fields.items()
        if key != "name" and value not in (False, 0.0, None, "none")
    ]
    return str(fields["name"]) + (f" ({', '.join(said)})" if said else "")


def _batch_norm(table: StageTables, blueprint: Blueprint) -> str:
    layers = [n for n, m in blueprint.skeleton.named_modules() if isinstance(m, BATCH_NORM)]
    frozen = [name for name in layers if name in table.freezing.modules]
    if not layers:
        return "the network has no BatchNorm"
    if not frozen:
        return f"trained in all {len(layers)} layers"
    still = "statistics stand still" if table.stage.batch_norm == "eval" else "statistics follow the data"
    return f"{still} in {len(frozen)} frozen layers, trained in {len(layers) - len(frozen)}"


def _warnings(
    spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset, tables: list[StageTables]
) -> list[str]:
    warnings = []
    if spec.dataset.val_fraction is not None and dataset.has_val_split:
        warnings.append("dataset.val_fraction has no effect: the dataset has a val split of its own")
    if spec.range_test is not None:
        test = spec.range_test
        warnings.append(
            f"range_test: nothing is trained; the first stage is tried at rates from {test.start_lr:g} to "
            f"{test.end_lr:g} in {test.steps} steps, and no schedule, epoch or later stage is used"
        )
    if blueprint.head.action == "removed" and spec.head.keep == "never":
        warnings.append('head.keep "never" has no effect: there is no head')
    if spec.head.dropout and blueprint.head.action == "kept":
        warnings.append("head.dropout is applied to a head that is kept as it was")
    weights = getattr(spec.objective, "class_weights", "none")  # the triplet objective has none
    for index, table in enumerate(tables):
        if spec.batch_size * table.stage.accumulate == 1 and weights_of(dataset.train):
            warnings.append(
                f"stage {table.name!r}: the images' weights have no effect: they weigh the images of a step "
                "against one another, and a step takes one"
            )
        reason = obstacle(table)
        if spec.compile == "on" and reason is not None:
            warnings.append(f"stage {table.name!r}: compile has no effect: {reason}")
        warnings += [
            f"stage {table.name!r}: {text}" for text in _stage_warnings(table, blueprint, index == 0, weights)
        ]
    return warnings


def _stage_warnings(table: StageTables, blueprint: Blueprint, first: bool, class_weights: str) -> list[str]:
    model, heads, freezing = blueprint.skeleton, blueprint.backbone.heads, table.freezing
    warnings = []
    sandwich = alternates(model, heads, freezing)
    if sandwich:
        before, frozen, after = sandwich
        warnings.append(
            f"{frozen} is frozen between {before} and {after}, which are trained: it rarely helps"
        )
    warnings += [f"the factor of {name!r} touches only frozen modules" for name in table.grouping.idle]
    still = [group.name for group in table.grouping.groups if group.factor == 0]
    warnings += [f"the group {name!r} has factor 0: it is trained at a rate of 0" for name in still]
    optimizer = table.stage.optimizer
    if not optimizer.decay_norms_and_biases and optimizer.weight_decay == 0:
        warnings.append("decay_norms_and_biases has no effect: weight_decay is 0")
    if first and blueprint.source is None and freezing.parameters:
        warnings.append("what is frozen has random weights, as backbone.weights is null")
    stopping = table.stage.early_stopping
    if stopping is not None and stopping.patience >= table.stage.epochs:
        warnings.append(f"early_stopping has no effect: a patience of {stopping.patience} is the whole stage")
    if table.stage.sampler == "balanced" and class_weights == "balanced":
        warnings.append("the sampler and the class weights both balance the classes: small ones count double")
    if table.stage.gradient_checkpointing and not table.recomputed:
        warnings.append("gradient_checkpointing has no effect: the head alone runs, over features")
    if table.stage.feature_views is not None:
        warnings += _view_warnings(table)
    normalised = any(isinstance(m, BATCH_NORM) and n in freezing.modules for n, m in model.named_modules())
    if table.stage.batch_norm == "update" and not normalised:
        warnings.append('batch_norm "update" has no effect: no frozen module has BatchNorm')
    return warnings


def _view_warnings(table: StageTables) -> list[str]:
    views, epochs = table.stage.feature_views, table.stage.epochs
    if table.anew_because is not None:
        return [f"feature_views has no effect: {table.anew_because}"]
    if views is not None and views > epochs:
        return [f"feature_views {views} is more than the {epochs} epochs take: each has views of its own"]
    return []
