"""Recipes: short functions that turn a few numbers into stages."""

from collections.abc import Callable
from typing import Any

from finetune.spec.job import JobSpec, ResolvedSpec
from finetune.spec.objectives import Triplet
from finetune.spec.recipes import Joint, Recipe, TripletRecipe, TwoStage
from finetune.spec.schedules import Constant, GroupFactor, Linear, LrPlan
from finetune.spec.stages import FreezeBackbone, FreezeNone, StageSpec, Standard


def two_stage(recipe: TwoStage) -> list[StageSpec]:
    """The head on plain views at a constant rate, then everything at a smaller rate that falls to zero.

    The head's stage has no random augmentation, so that its features are computed once.
    """
    return [
        StageSpec(
            name="head",
            epochs=recipe.head_epochs,
            freeze=FreezeBackbone(policy="backbone"),
            lr=LrPlan(schedule=Constant(name="constant", lr=recipe.head_lr)),
        ),
        StageSpec(
            name="all",
            epochs=recipe.full_epochs,
            freeze=FreezeNone(policy="none"),
            lr=LrPlan(schedule=Linear(name="linear", lr=recipe.full_lr, end_lr=0.0)),
            augmentation=Standard(name="standard"),
        ),
    ]


def joint(recipe: Joint) -> list[StageSpec]:
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
            augmentation=Standard(name="standard"),
        )
    ]


def triplet(recipe: TripletRecipe) -> list[StageSpec]:
    """Everything at a small rate that drops at parts of the epochs."""
    values, start, factor = [], 0, 1.0
    ends = [round(part * recipe.epochs) for part, _ in recipe.drops] + [recipe.epochs]
    factors = [factor for _, factor in recipe.drops] + [factor]
    for end, following in zip(ends, factors, strict=True):
        values += [recipe.lr * factor] * (end - start)
        start, factor = end, following
    schedule = {"name": "list", "values": values}
    return [
        StageSpec(
            name="all",
            epochs=recipe.epochs,
            freeze=FreezeNone(policy="none"),
            lr=LrPlan.model_validate({"schedule": schedule}),
            augmentation=Standard(name="standard"),
        )
    ]


RECIPES: dict[type[Any], Callable[[Any], list[StageSpec]]] = {
    TwoStage: two_stage,
    Joint: joint,
    TripletRecipe: triplet,
}


def expand(recipe: Recipe) -> list[StageSpec]:
    """The stages that a recipe stands for."""
    return RECIPES[type(recipe)](recipe)


def resolve(spec: JobSpec) -> ResolvedSpec:
    """The spec with its recipe expanded and every stage named. Resolving twice changes nothing."""
    stages = spec.stages if spec.stages is not None else expand(spec.recipe)  # type: ignore[arg-type]  # one of the two is there: JobSpec sees to it
    taken = {stage.name for stage in stages}
    named = []
    for number, stage in enumerate(stages, start=1):
        free = (f"stage-{number}", *(f"stage-{number}-{again}" for again in range(2, len(stages) + 2)))
        name = stage.name or next(name for name in free if name not in taken)
        named.append(stage.model_copy(update={"name": name}))
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    objective = Triplet(name="triplet") if isinstance(spec.recipe, TripletRecipe) else spec.objective
    if isinstance(spec.objective, Triplet):
        objective = spec.objective
    return ResolvedSpec.model_validate({**fields, "recipe": None, "stages": named, "objective": objective})
