"""Job specs for the work: the same two stages, with a row's changes."""

from pathlib import Path
from typing import Any

from benchmarks.networks import name_of
from benchmarks.work import Work
from finetune.spec import find_problems
from finetune.spec.patches import merge

Stage = dict[str, Any]


def spec_of(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """The spec of a row. `options` may patch the `spec`, and its stages `head` and `full`."""
    optimizer = {"name": "sgd", "momentum": work.momentum}
    head: Stage = {
        "name": "head",
        "epochs": work.head_epochs,
        "freeze": {"policy": "backbone"},
        "optimizer": optimizer,
        "lr": {"schedule": {"name": "constant", "lr": work.head_rate}},
        "augmentation": "none",
    }
    constant = {"name": "constant", "lr": work.full_rate}
    falls = {"name": "linear", "lr": work.full_rate, "end_lr": 0.0}
    full: Stage = {
        "name": "full",
        "epochs": work.full_epochs,
        "optimizer": optimizer,
        "lr": {"schedule": falls if work.full_rate_falls else constant},
        "augmentation": fresh(work),
    }
    stages = [
        merge(stage, _filled(options.get(stage["name"], {}), work))
        for stage in (head, full)
        if stage["epochs"]
    ]
    weights = {"file": Path(work.weights).name} if work.weights else None
    spec = {
        "dataset": {"path": Path(work.data).name},
        "backbone": {"name": name_of(work), "weights": weights},
        "batch_size": work.batch_size,
        "image_size": work.image_size,
        "seed": work.seed,
        "stages": stages,
    }
    return {**spec, **options.get("spec", {})}


def fresh(work: Work) -> dict[str, Any]:
    """New crops and flips in each epoch, as the tutorial has them."""
    return {"name": "standard", "crop_scale": list(work.crop_scale)}


def unknown(spec: dict[str, Any]) -> str | None:
    """Which of the spec's fields this version does not have; None where it has them all.

    Raises:
        ValueError: the spec is wrong otherwise.
    """
    problems = find_problems(spec)
    if not problems:
        return None
    others = [problem for problem in problems if problem.code != "extra_forbidden"]
    if others:
        raise ValueError("; ".join(f"{problem.param}: {problem.message}" for problem in others))
    return "not in this version: " + ", ".join(problem.param or "?" for problem in problems)


def _filled(patch: dict[str, Any], work: Work) -> dict[str, Any]:
    """A stage's patch, where the augmentation "fresh" stands for the work's own."""
    return {**patch, "augmentation": fresh(work)} if patch.get("augmentation") == "fresh" else patch
