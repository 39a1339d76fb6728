"""Checks of a request against what there is here: data, backbones, modules. Every problem, not the first.

A part with a problem of its own is left out of these checks; the sound parts beside it are checked.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from finetune.backbones import Backbone, Registry, check_image_size, skeleton
from finetune.backbones.weights import find_source, weights_file
from finetune.data import class_batches
from finetune.data.dataset import check_objective, find_dataset, open_dataset
from finetune.errors import DatasetInvalid, FinetuneError, SpecInvalid
from finetune.freezing import freezing_of
from finetune.lr import unusable_rate
from finetune.modules import UnknownModule, matching
from finetune.network import resolve_with
from finetune.optimizers import unavailable
from finetune.sizes import check_train_size, sizes_of
from finetune.spec import find_problems, parse_part
from finetune.spec.combinations import combination_problems
from finetune.spec.job import (
    BackboneSpec,
    DatasetSpec,
    FileWeights,
    JobSpec,
    JobWeights,
    PreprocessingSpec,
    ResolvedSpec,
    objective_of,
)
from finetune.spec.objectives import Triplet
from finetune.spec.problems import Problem
from finetune.spec.stages import FreezeBefore, FreezeExcept, FreezeModules, StageSpec


def check(body: Any, registry: Registry, data_dir: Path, weights_dir: Path) -> list[Problem]:
    """Every problem of a request, those of its fields first."""
    problems = find_problems(body)
    dataset = parse_part(DatasetSpec, body, "dataset")
    if dataset is not None:
        missing = _attempt(lambda: find_dataset(data_dir, dataset.path))
        problems += missing or _attempt(lambda: _check_objective(body, data_dir))
    backbone = parse_part(BackboneSpec, body, "backbone")
    if backbone is not None:
        problems += _backbone_problems(body, backbone, registry, weights_dir)
    return problems


def _check_objective(body: Any, data_dir: Path) -> None:
    """Holds the objective of a sound spec against the data's labels and numbers of images."""
    spec = parse_part(JobSpec, body)
    if spec is None:
        return
    try:
        dataset = open_dataset(data_dir, spec.dataset, spec.seed)
    except DatasetInvalid:
        return  # the plan and the run say so
    objective = objective_of(spec.objective, spec.recipe)
    check_objective(objective, dataset)
    if isinstance(objective, Triplet):
        class_batches.check(objective, dataset)


def _attempt(check: Any) -> list[Problem]:
    try:
        check()
    except SpecInvalid as error:
        return list(error.problems)
    except FinetuneError as error:
        return [Problem(error.param, error.message, error.code)]
    return []


def _backbone_problems(body: Any, spec: BackboneSpec, registry: Registry, weights_dir: Path) -> list[Problem]:
    try:
        backbone = registry.find(spec.name)
    except SpecInvalid as error:
        return list(error.problems)
    problems = []
    if isinstance(spec.weights, FileWeights):
        file = spec.weights.file
        problems += _attempt(lambda: weights_file(weights_dir, file))
    elif not isinstance(spec.weights, JobWeights):
        problems += _attempt(lambda: find_source(spec, backbone, weights_dir, None))
    try:
        model = skeleton(backbone, backbone.num_classes, backbone.preprocessing.crop)
    except SpecInvalid as error:
        return [*problems, *error.problems]
    whole = parse_part(JobSpec, body)
    if whole is not None:
        in_recipe = whole.recipe is not None
        path_of: StagePath = (lambda index: "recipe") if in_recipe else (lambda index: f"stages.{index}")
        problems += resolved_problems(resolve_with(registry, whole), registry, path_of)
        return problems + _size_problems(whole, backbone, weights_dir)
    size = body.get("image_size") if isinstance(body, dict) else None
    sound_size = size if type(size) is int and 8 <= size <= 4096 else None
    preprocessing = parse_part(PreprocessingSpec, body, "preprocessing")
    problems += _taken_sizes(backbone, sound_size, preprocessing.train_size if preprocessing else None)
    for param, stage in _stages(body):
        problems += _stage_problems(param, stage, backbone, model)
    return problems


def _taken_sizes(backbone: Backbone, image_size: int | None, train_size: int | None) -> list[Problem]:
    """Whether the network takes images of these sizes, where they are said."""
    problems = []
    if image_size is not None:
        problems += _attempt(lambda: check_image_size(backbone, image_size))
    if train_size is not None:
        problems += _attempt(lambda: check_train_size(backbone, train_size))
    return problems


def _size_problems(spec: JobSpec, backbone: Backbone, weights_dir: Path) -> list[Problem]:
    """What `sizes_of` says, where what the weights expect is known; a job's checkpoint is opened later."""
    source = None
    if not isinstance(spec.backbone.weights, JobWeights):
        try:
            source = find_source(spec.backbone, backbone, weights_dir, None)
        except FinetuneError:
            return []  # told already, or when the weights are read
    elif spec.image_size is None:
        return []
    return _attempt(lambda: sizes_of(spec, backbone, source))


StagePath = Callable[[int], str]  # where a request says a stage


def resolved_problems(
    spec: ResolvedSpec, registry: Registry, path_of: StagePath = lambda index: f"stages.{index}"
) -> list[Problem]:
    """What a sound spec asks for that its network or its other fields do not allow, each problem once."""
    backbone = registry.find(spec.backbone.name)
    embeds = isinstance(spec.objective, Triplet) and spec.objective.embedding_size is None
    problems = combination_problems(spec, path_of)
    problems += _taken_sizes(backbone, spec.image_size, spec.preprocessing.train_size)
    try:
        model = skeleton(backbone, None if embeds else backbone.num_classes, backbone.preprocessing.crop)
    except SpecInvalid as error:
        return problems + list(error.problems)
    for index, stage in enumerate(spec.stages):
        problems += _stage_problems(path_of(index), stage, backbone, model)
    return list(dict.fromkeys(problems))


def _stages(body: Any) -> Iterator[tuple[str, StageSpec]]:
    listed = body.get("stages") if isinstance(body, dict) else None
    for index in range(len(listed) if isinstance(listed, list) else 0):
        stage = parse_part(StageSpec, body, "stages", index)
        if stage is not None:
            yield f"stages.{index}", stage


def _stage_problems(param: str, stage: StageSpec, backbone: Backbone, model: nn.Module) -> Iterator[Problem]:
    missing = unavailable(stage.optimizer)
    if missing:
        yield Problem(f"{param}.optimizer", missing, "not_installed")
    unusable = unusable_rate(stage)
    if unusable:
        yield Problem(f"{param}.lr.schedule", unusable, "unusable_rate")
    unknown = list(_unknown_modules(param, stage, backbone, model))
    yield from unknown
    if any(str(problem.param).startswith(f"{param}.freeze") for problem in unknown):
        return
    freezing = freezing_of(model, backbone.heads, stage.freeze, stage.batch_norm)
    if len(freezing.parameters) == sum(1 for _ in model.parameters()):
        yield Problem(
            f"{param}.freeze", "freezes every parameter: the stage would train nothing", "nothing_trained"
        )


def _unknown_modules(param: str, stage: StageSpec, backbone: Backbone, model: nn.Module) -> Iterator[Problem]:
    for field, name in _named_modules(stage):
        try:
            matching(model, backbone.heads, name)
        except UnknownModule as error:
            yield Problem(f"{param}.{field}", str(error), "unknown_module")


def _named_modules(stage: StageSpec) -> Iterator[tuple[str, str]]:
    match stage.freeze:
        case FreezeBefore(module=name):
            yield "freeze.module", name
        case FreezeModules(modules=names) | FreezeExcept(modules=names):
            yield from (("freeze.modules", name) for name in names)
    yield from (("lr.factors", name) for factor in stage.lr.factors for name in factor.modules)
