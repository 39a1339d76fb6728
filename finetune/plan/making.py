"""From the tables of a spec to its plan."""

from collections.abc import Mapping
from typing import Any, Literal

from finetune.compiling import obstacle
from finetune.data.dataset import Dataset, weights_of
from finetune.data.stored import StoredSize, needed_sizes
from finetune.freezing import BATCH_NORM
from finetune.modules import summarize
from finetune.network import Blueprint
from finetune.plan.blocks import Block, blocks_of, state_of
from finetune.plan.fields import (
    EpochRates,
    FrozenModule,
    Plan,
    PlannedBlock,
    PlannedFeatures,
    PlannedGroup,
    PlannedHead,
    PlannedStage,
    StoredImages,
)
from finetune.plan.warnings import warnings_of
from finetune.spec.job import ResolvedSpec
from finetune.spec.stages import StageSpec
from finetune.tables import StageTables

SAID_AMONG_OPTIONS = {"decay_norms_and_biases", "fused"}


def make_plan(spec: ResolvedSpec, blueprint: Blueprint, dataset: Dataset, tables: list[StageTables]) -> Plan:
    """What the tables of a spec say, for people and programs."""
    model, backbone, head = blueprint.skeleton, blueprint.backbone, blueprint.head
    blocks = blocks_of(model, backbone)
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
        blocks=[
            PlannedBlock(
                name=block.name,
                parameters=block.parameters,
                boundary=block.name if index else None,
                head=block.is_head,
            )
            for index, block in enumerate(blocks)
        ],
        stages=[_planned(spec, table, blueprint, blocks) for table in tables],
        warnings=warnings_of(spec, blueprint, dataset, tables),
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


def _planned(
    spec: ResolvedSpec, table: StageTables, blueprint: Blueprint, blocks: list[Block]
) -> PlannedStage:
    stage, model, freezing = table.stage, blueprint.skeleton, table.freezing
    frozen = summarize(model, freezing.modules)
    return PlannedStage(
        name=table.name,
        epochs=stage.epochs,
        steps_per_epoch=table.steps_per_epoch,
        batch_norm=_batch_norm(table, blueprint),
        augmentation=_phrase(stage.augmentation.model_dump()),
        optimizer=_phrase(stage.optimizer.model_dump(exclude=SAID_AMONG_OPTIONS)),
        features_once=table.features_once,
        compile="off" if obstacle(table) or spec.range_test else spec.compile,
        features=_features(table),
        frozen=[FrozenModule(module=name, parameters=count) for name, count in frozen.items()],
        blocks=[state_of(block, freezing) for block in blocks],
        frozen_parameters=sum(frozen.values()),
        trained_parameters=table.trained_parameters,
        options=[*table.sampling.said, *_options(stage), *_of_job(spec, stage), *_anew(table)],
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
    if not getattr(stage.optimizer, "fused", True):
        said.append("no steps in one kernel")
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


def _of_job(spec: ResolvedSpec, stage: StageSpec) -> list[str]:
    """What the job asks of each of its stages."""
    said, every = [], spec.checkpoints.every_steps
    if every is not None:
        said.append(f"saves within epochs, after every {every} steps")
    if spec.on_oom == "halve_batch":
        half, batches = spec.batch_size // 2, 2 * stage.accumulate
        said.append(f"out of memory: batches of {half} images, a step for every {batches}")
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
