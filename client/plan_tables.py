"""A plan as tables: what a spec would freeze and train, and at which rates."""

from itertools import groupby

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from client.plans import Plan, PlannedFeatures, PlannedRates, PlannedStage, StoredImages
from client.tables import rate, show, table_of
from client.text import one_line

LISTED = 6
"""Names that are listed before the rest is counted."""


def print_plan(console: Console, plan: Plan) -> None:
    """Prints a plan: the head line, each stage, the warnings."""
    for line in head_lines(plan):
        console.print(line, soft_wrap=True)
    for number, stage in enumerate(plan.stages, start=1):
        console.print()
        for line in stage_lines(number, stage):
            console.print(line, soft_wrap=True)
        tables = (frozen_table(stage), groups_table(stage), rates_table(stage.lr))
        for table in tables:
            if table.row_count:
                console.print()
                show(console, table)
    if plan.warnings:
        console.print()
    for warning in plan.warnings:
        console.print(f"warning: {one_line(warning)}", soft_wrap=True)


def head_lines(plan: Plan) -> list[str]:
    """The network, its classes and images, and what happens to its head."""
    classes = f"{len(plan.classes)} classes ({_listed(plan.classes)})"
    images = f", {plan.images.train} training and {plan.images.val} validation images" if plan.images else ""
    lines = [one_line(f"{plan.backbone.name}, {plan.backbone.parameters:,} parameters; {classes}{images}")]
    if plan.head is not None:
        reason = f": {plan.head.reason}" if plan.head.reason else ""
        lines.append(one_line(f"head {_listed(plan.head.modules)} {plan.head.action}{reason}"))
        if plan.head.kept and plan.head.new:
            lines.append(f"rows kept of {_listed(plan.head.kept)}; new of {_listed(plan.head.new)}")
    if plan.objective is not None:
        lines.append(one_line(f"objective {plan.objective}; the best epoch is chosen by {plan.metric}"))
    if plan.stored:
        lines.append(one_line(f"keeps decoded images: {'; '.join(map(_stored, plan.stored))}"))
    return lines


def _stored(images: StoredImages) -> str:
    if images.short_side is None:
        return f"{images.split} as they are"
    size = f", about {images.bytes / 1e6:,.0f} MB" if images.bytes is not None else ""
    return f"{images.split} at {images.short_side} pixels{size}"


def stage_lines(number: int, stage: PlannedStage) -> list[str]:
    """What a stage does, and how much of the network it trains."""
    steps = f" of {_count(stage.steps_per_epoch, 'step')}" if stage.steps_per_epoch is not None else ""
    parts = [f"stage {number} {stage.name}: {_count(stage.epochs, 'epoch')}{steps}"]
    if stage.optimizer:
        parts.append(stage.optimizer)
    if stage.augmentation:
        parts.append(f"augmentation {stage.augmentation}")
    if stage.batch_norm:
        parts.append(f"batch norm {stage.batch_norm}")
    if stage.features_once:
        parts.append("features computed once")
    if stage.compile == "on":
        parts.append("compiled")
    parts += stage.options
    lines = [
        one_line("; ".join(parts)),
        f"trains {stage.trained_parameters:,} parameters, freezes {stage.frozen_parameters:,}",
    ]
    return [*lines, features_line(stage.features)] if stage.features is not None else lines


def features_line(features: PlannedFeatures) -> str:
    """What is computed once, how large it is, and what that saves."""
    views = f" in {features.views} views each" if features.views > 1 else ""
    images = f"{features.train_images} training images{views}, {features.val_images} validation images"
    size = f"at most {decimal(features.bytes)} {'in memory' if features.kept == 'memory' else 'on disk'}"
    saving = f"saves {features.saving:.0%} of the computing"
    return one_line(f"computes once what comes before {features.before}: {images}; {size}; {saving}")


def frozen_table(stage: PlannedStage) -> Table:
    """A row per frozen module."""
    table = table_of("frozen", "parameters")
    for frozen in stage.frozen:
        table.add_row(one_line(frozen.module), f"{frozen.parameters:,}")
    return table


def groups_table(stage: PlannedStage) -> Table:
    """A row per group of parameters that share a rate."""
    table = table_of("group", "factor", "parameters", "tensors", "modules")
    for group in stage.groups:
        table.add_row(
            one_line(group.name),
            rate(group.factor),
            f"{group.parameters:,}",
            str(group.tensors),
            _listed(group.modules),
        )
    return table


def rates_table(epochs: list[PlannedRates]) -> Table:
    """A row per run of neighbouring epochs with the same rates, a column per group."""
    names = list(epochs[0].first) if epochs else []
    table = table_of("epochs", *(one_line(name) for name in names))
    for _, neighbours in groupby(epochs, key=lambda epoch: (epoch.first, epoch.last)):
        run = list(neighbours)
        first, last = run[0], run[-1]
        span = str(first.epoch) if len(run) == 1 else f"{first.epoch}-{last.epoch}"
        table.add_row(span, *(_course(first, name) for name in names))
    return table


def _course(epoch: PlannedRates, group: str) -> str:
    begin = rate(epoch.first[group])
    end = rate(epoch.last.get(group, epoch.first[group]))
    return begin if begin == end else f"{begin} to {end}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED])
    rest = len(names) - LISTED
    return one_line(f"{shown} and {rest} more" if rest > 0 else shown)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
