"""A run's best checkpoint, loaded anew: does the file give the score that was stored with it?"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from finetune.checkpoint import sha256_of
from finetune.device import Compute
from finetune.errors import FinetuneError, NotReproduced
from finetune.objectives import Evaluation
from finetune.report.fields import Reproduced
from finetune.run import Run
from finetune.spec.objectives import lower_is_better
from finetune.trained import TrainedModel, open_model

ROUNDING = 1e-6  # what the same sum may differ by on the same machine
SAME_MACHINE = 1e-5  # of a loss, there
RELATIVE = 1e-3  # of a loss, between two kinds of devices
SHARE = 1e-3  # of a metric between 0 and 1


@dataclass(frozen=True)
class Again:
    """The best checkpoint's network as its file gives it, and its answers to the validation images, in fp32.

    `outputs` are float32 (N, outputs), on the CPU, in the dataset's order.
    """

    weights: Path
    sha256: str
    model: TrainedModel
    evaluation: Evaluation
    outputs: Tensor
    reproduced: Reproduced


def reproduce(run: Run) -> Again:
    """Opens the file of the best checkpoint, evaluates a new network with it, and compares the metric.

    Raises:
        NotReproduced: the file is gone or damaged, or its metric is another than was stored.
    """
    best = run.standing.best
    assert best is not None, "an epoch has been run"
    metric, stored = str(best["metric"]), best["value"]
    what = f"the best checkpoint (epoch {best['global_epoch']}, {metric} {_shown(stored)})"
    weights, digest, model = _opened(run, what)
    figure, exact = metric.removeprefix("val_"), replace(run.compute, precision="fp32")
    evaluation, outputs = _evaluated(run, model, run.compute)
    again = evaluation.figures[figure]
    same = run.best is not None and run.best.own and run.compute.device.type == "cpu"
    # Below fp32 rounding explains more than borderline images, and so does another precision than it was
    # stored in: then the file is proved by its SHA-256 alone, and a difference is told, not taken for damage.
    explained = (
        not same
        and (run.moved or run.compute.precision != "fp32")
        and stored is not None
        and math.isfinite(again)
    )
    if not matches(metric, stored, again, None if same else len(outputs)) and not explained:
        raise NotReproduced(
            f"{what} was loaded anew and gives {_shown(again)}: retry the job; if it comes again, "
            "the network answers differently from call to call, or the machine's memory or disk is at fault"
        )
    if exact != run.compute:
        evaluation, outputs = _evaluated(run, model, exact)
    reproduced = reproduction(metric, stored, again, run.compute.precision, evaluation.figures[figure])
    return Again(weights, digest, model, evaluation, outputs, reproduced)


def matches(metric: str, stored: float | None, again: float, images: int | None) -> bool:
    """Whether both values differ by no more than rounding explains.

    In the process that stored it, a metric comes again on the CPU but for the last digits (`images` None).
    A job may have been resumed on another machine, though, and a GPU may sum in another order: rounding then
    turns the answer for a borderline image (of `images`), that is 1 / images of a share. A loss is a mean
    over all and moves by a small part of itself.
    """
    if stored is None or not math.isfinite(again):
        return stored is None and not math.isfinite(again)
    if lower_is_better(metric):
        tolerance = max((RELATIVE if images else SAME_MACHINE) * abs(stored), ROUNDING)
    else:
        tolerance = (max(1 / images, SHARE) if images else 0.0) + ROUNDING
    return abs(again - stored) <= tolerance


def reproduction(
    metric: str, stored: float | None, again: float, precision: str, in_fp32: float
) -> Reproduced:
    """What the report says of values that match."""
    return Reproduced(
        metric=metric,
        stored=stored,
        again=None if stored is None else again,
        difference=None if stored is None else again - stored,
        precision=precision,
        in_fp32=in_fp32 if math.isfinite(in_fp32) else None,
    )


def _opened(run: Run, what: str) -> tuple[Path, str, TrainedModel]:
    """The best checkpoint's file, its SHA-256, and the network that it describes."""
    best = run.best
    assert best is not None, "the best epoch has a checkpoint"
    try:
        digest = sha256_of(best.weights)
    except OSError as error:
        raise NotReproduced(
            f"{what} cannot be loaded anew: its file {best.weights.name} is gone or cannot be read; "
            "retry the job"
        ) from error
    if best.sha256 not in (None, digest):
        raise NotReproduced(
            f"{what} cannot be loaded anew: its file {best.weights.name} is damaged, as its SHA-256 is not "
            "the one that was stored; retry the job, and look at the disk"
        )
    try:
        model = open_model(best.weights, run.registry, run.compute.device)
    except FinetuneError as error:
        raise NotReproduced(f"{what} cannot be loaded anew: {error.message}; retry the job") from error
    told = (model.about["global_epoch"], model.classes, model.preprocessing)
    if told != (best.global_epoch, run.dataset.classes, run.blueprint.preprocessing):
        raise NotReproduced(
            f"{what} cannot be loaded anew: the file {best.weights.name} is of another epoch or of other data"
        )
    return best.weights, digest, model


def _evaluated(run: Run, model: TrainedModel, compute: Compute) -> tuple[Evaluation, Tensor]:
    network, batches = run.validation(compute.laid(model.network), model.about["stage"], compute)
    answer, kept = compute.evaluating(network), list[Tensor]()

    def forward(inputs: Tensor) -> Tensor:
        outputs = answer(inputs)
        kept.append(outputs.cpu())
        return outputs

    return run.objective.evaluate(forward, batches), torch.cat(kept)


def _shown(value: float | None) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.6g}"
