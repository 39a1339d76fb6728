"""Recipes: short functions that turn a few numbers into stages."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from finetune.spec.job import MOST_STAGES, JobSpec, ResolvedSpec, objective_of
from finetune.spec.objectives import METRICS
from finetune.spec.recipes import Gradual, Joint, LinearProbe, Recipe, TripletRecipe, TwoStage
from finetune.spec.schedules import Constant, GroupFactor, Linear, LrPlan
from finetune.spec.stages import Freeze, FreezeBackbone, FreezeBefore, FreezeNone, StageSpec

Blocks = Callable[[], Sequence[str]]  # names a network's blocks, from the input to the head


def _head_alone(epochs: int, lr: float) -> StageSpec:
    """The head at a constant rate, without random augmentation: its features are computed once."""
    return StageSpec(
        name="head",
        epochs=epochs,
        freeze=FreezeBackbone(policy="backbone"),
        lr=LrPlan(schedule=Constant(name="constant", lr=lr)),
    )


def two_stage(recipe: TwoStage, blocks: Blocks) -> list[StageSpec]:
    """The head alone, then everything at a smaller rate that falls to zero."""
    return [
        _head_alone(recipe.head_epochs, recipe.head_lr),
        StageSpec(
            name="all",
            epochs=recipe.full_epochs,
            freeze=FreezeNone(policy="none"),
            lr=LrPlan(schedule=Linear(name="linear", lr=recipe.full_lr, end_lr=0.0)),
            augmentation=recipe.augmentation,
        ),
    ]


def joint(recipe: Joint, blocks: Blocks) -> list[StageSpec]:
    """Everything at once at a rate that falls to zero, the head's `head_factor` times as large."""
    return [
        StageSpec(
            name="all",
            epochs=recipe.epochs,
            freeze=FreezeNone(policy="none"),
            lr=LrPlan(
                schedule=Linear(name="linear", lr=recipe.lr, end_lr=0.0),
                factors=[GroupFactor(modules=["head"], factor=recipe.head_factor)],
            ),
            augmentation=recipe.augmentation,
        )
    ]


def linear_probe(recipe: LinearProbe, blocks: Blocks) -> list[StageSpec]:
    """The head alone."""
    return [_head_alone(recipe.epochs, recipe.lr)]


def gradual(recipe: Gradual, blocks: Blocks) -> list[StageSpec]:
    """The head alone, then block after block from the head down, at one rate that falls to zero."""
    below = list(blocks())[:-1]  # the last one is the head
    count = min(recipe.most_stages or len(below), len(below), MOST_STAGES - 1)
    stages = [_head_alone(recipe.head_epochs, recipe.head_lr)]
    for number in range(count):
        left, still_left = 1 - number / count, 1 - (number + 1) / count
        first = round(len(below) * still_left)  # the block nearest to the input that is trained
        freeze: Freeze = FreezeNone(policy="none")
        if first > 0:
            freeze = FreezeBefore(policy="before", module=below[first])
        stages.append(
            StageSpec(
                name="all" if first == 0 else f"from {below[first]}",
                epochs=recipe.block_epochs,
                freeze=freeze,
                lr=LrPlan(schedule=Linear(name="linear", lr=recipe.lr * left, end_lr=recipe.lr * still_left)),
                augmentation=recipe.augmentation,
            )
        )
    return stages


def triplet(recipe: TripletRecipe, blocks: Blocks) -> list[StageSpec]:
    """Everything at a small rate that drops at parts of the epochs."""
    values: list[list[float]] = []
    ends = [ceil(part * recipe.epochs) for part, _ in recipe.drops] + [recipe.epochs]
    factors = [1.0] + [factor for _, factor in recipe.drops]
    for start, end, factor in zip([0, *ends], ends, factors, strict=False):
        if end > start:
            values.append([recipe.lr * factor, float(end - start)])
    schedule = {"name": "list", "values": values}
    return [
        StageSpec(
            name="all",
            epochs=recipe.epochs,
            freeze=FreezeNone(policy="none"),
            lr=LrPlan.model_validate({"schedule": schedule}),
            augmentation=recipe.augmentation,
        )
    ]


RECIPES: dict[type[Any], Callable[[Any, Blocks], list[StageSpec]]] = {
    TwoStage: two_stage,
    Joint: joint,
    LinearProbe: linear_probe,
    Gradual: gradual,
    TripletRecipe: triplet,
}


def expand(recipe: Recipe, blocks: Blocks) -> list[StageSpec]:
    """The stages that a recipe stands for."""
    return RECIPES[type(recipe)](recipe, blocks)


def resolve(spec: JobSpec, blocks: Blocks) -> ResolvedSpec:
    """The spec with its recipe expanded, every stage named and every default filled in.

    `blocks` is asked only where a recipe needs to know the network's. Resolving twice changes nothing.
    """
    stages = spec.stages if spec.stages is not None else expand(spec.recipe, blocks)  # type: ignore[arg-type]  # one of the two is there: JobSpec sees to it
    taken = {stage.name for stage in stages}
    named = []
    for number, stage in enumerate(stages, start=1):
        free = (f"stage-{number}", *(f"stage-{number}-{again}" for again in range(2, len(stages) + 2)))
        name = stage.name or next(name for name in free if name not in taken)
        named.append(stage.model_copy(update={"name": name}))
    objective = objective_of(spec.objective, spec.recipe)
    metric = spec.checkpoints.metric or METRICS[type(objective)][0]
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    return ResolvedSpec.model_validate(
        {
            **fields,
            "recipe": None,
            "stages": named,
            "objective": objective,
            "checkpoints": spec.checkpoints.model_copy(update={"metric": metric}),
        }
    )
