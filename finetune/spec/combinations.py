"""What is wrong between fields that are each right by themselves."""

from collections.abc import Callable, Iterator
from typing import Any

from finetune.spec.halving import halving_problem
from finetune.spec.job import ResolvedSpec
from finetune.spec.objectives import METRICS, BinaryCrossEntropy, Triplet
from finetune.spec.problems import Problem
from finetune.spec.stages import StageSpec

MOST_IN_TRIPLETS = 1024  # images of a batch; looking for triplets takes as many bytes as their third power


def combination_problems(spec: ResolvedSpec, stage_path: Callable[[int], str]) -> list[Problem]:
    """The problems of a whole spec; `stage_path(index)` is where the request says a stage."""
    return list(_of_job(spec, stage_path)) + [
        problem for i, stage in enumerate(spec.stages) for problem in _of_stage(spec, stage, stage_path(i))
    ]


def _of_job(spec: ResolvedSpec, stage_path: Callable[[int], str]) -> Iterator[Problem]:
    if spec.metric not in METRICS[type(spec.objective)]:
        yield _no_such_metric(spec, spec.metric, "checkpoints.metric")
    objective: Any = spec.objective
    if isinstance(objective, Triplet):
        images = objective.classes_per_batch * objective.images_per_class
        if images > MOST_IN_TRIPLETS:
            message = f"{images} images make more triplets than fit: take {MOST_IN_TRIPLETS} or fewer"
            yield Problem("objective.classes_per_batch", f"a batch of {message}", "batch_too_large")
    if spec.checkpoints.weights == "ema" and not any(stage.ema for stage in spec.stages):
        message = 'weights "ema" needs a stage with an ema: set one, or take "raw"'
        yield Problem("checkpoints.weights", message, "no_ema")
    unfit = halving_problem(spec) if spec.on_oom == "halve_batch" else None
    if unfit:
        yield Problem("on_oom", f'"halve_batch" {unfit}', "cannot_halve")
    if spec.stages[-1].restore == "best":
        message = "the last stage has none after it to begin with its best weights: leave restore out"
        yield Problem(f"{stage_path(len(spec.stages) - 1)}.restore", message, "no_next_stage")


def _of_stage(spec: ResolvedSpec, stage: StageSpec, path: str) -> Iterator[Problem]:
    objective: Any = spec.objective
    stopping = stage.early_stopping
    if stopping is not None and stopping.metric not in METRICS[type(objective)]:
        yield _no_such_metric(spec, stopping.metric, f"{path}.early_stopping.metric")
    if isinstance(objective, Triplet):
        if stage.sampler != "shuffle":
            message = "the objective triplet draws its own batches, of P classes with K images each"
            yield Problem(f"{path}.sampler", f"{message}: leave the sampler out", "unfit_for_objective")
        if stage.mix is not None:
            message = "a mixed image has no one class for the objective triplet: leave mix out"
            yield Problem(f"{path}.mix", message, "unfit_for_objective")
    if stage.mix is not None and spec.batch_size == 1:
        message = "a batch of one image has none to mix it with: take a larger batch_size, or leave mix out"
        yield Problem(f"{path}.mix", message, "nothing_to_mix")
    if isinstance(objective, BinaryCrossEntropy) and stage.sampler == "balanced":
        message = (
            "images with several labels have no one class to balance: set class_weights of the objective"
        )
        yield Problem(f"{path}.sampler", message, "unfit_for_objective")
    if stage.feature_views is not None:
        unfit = _no_views(stage)
        if unfit:
            yield Problem(f"{path}.feature_views", f"{unfit}: leave feature_views out", "no_feature_views")


def _no_views(stage: StageSpec) -> str | None:
    """Why a stage cannot keep the features of a number of drawn views."""
    if not stage.features_once:
        return "no features are kept where features_once is false"
    if stage.mix is not None:
        return f"{stage.mix.name} makes new images in each epoch, whose features cannot be kept"
    if stage.augmentation.name == "none":
        return 'with augmentation "none" each image has one view, whose features are kept anyway'
    if stage.augmentation.name == "light":
        return 'with augmentation "light" each image has two views, whose features are both kept anyway'
    return None


def _no_such_metric(spec: ResolvedSpec, metric: str, path: str) -> Problem:
    objective: Any = spec.objective
    known = ", ".join(METRICS[type(objective)])
    return Problem(path, f"the objective {objective.name} has no {metric}; it has {known}", "unknown_metric")
