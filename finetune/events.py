"""What a run tells its caller. Plain frozen records: they pickle, they turn into JSON, they know no tensor.

Epochs and steps count from 1, stages by `stage_index` from 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """Data and network are ready. `plan` is what the plan endpoint shows; `device` is where it trains.

    To check them, `images_decoded` files were opened and decoded; `images_known` had been in earlier checks.
    `fingerprint` is that of the data (see `finetune.data.fingerprints.of_dataset`).
    """

    plan: dict[str, Any]
    device: str
    precision: str
    images_decoded: int = 0
    images_known: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class FilesSkipped:
    """The run does without these files, as the spec asks for; by kind of problem."""

    files: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class StageStarted:
    """A stage begins, or goes on after an interruption.

    `epoch` is the one that comes next, or that goes on after `step` of its steps.
    """

    stage: str
    stage_index: int
    epoch: int
    trained_parameters: int
    frozen_parameters: int
    features_once: bool
    step: int = 0


@dataclass(frozen=True)
class FeaturesReady:
    """A stage has its features: of so many images computed now, of so many taken from the cache.

    Each of the training images' `views` counts. All together are `bytes` long, and in `kept`: memory or disk.
    """

    stage: str
    stage_index: int
    computed: int
    cached: int
    views: int
    bytes: int
    kept: str


@dataclass(frozen=True)
class CompileChosen:
    """Whether a stage's steps run compiled, and why."""

    stage: str
    stage_index: int
    compiled: bool
    reason: str


@dataclass(frozen=True)
class Progress:
    """A step is done."""

    stage: str
    stage_index: int
    stages: int
    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on disk: the weights, and the state from which the run goes on."""

    weights: Path
    sha256: str
    size: int
    state: Path
    state_sha256: str
    state_size: int
    metric: str
    value: float | None
    best: bool


@dataclass(frozen=True)
class EpochRecord:
    """The figures of an epoch. `lr` is each group's rate at the epoch's first step; times are in seconds.

    `val_ema` are those of the moving average, where the stage has one.
    """

    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    lr: dict[str, float]
    train: dict[str, float | None]
    val: dict[str, float | None]
    images_per_second: float
    seconds: dict[str, float]
    peak_memory_bytes: int
    nonfinite: bool = False
    val_ema: dict[str, float | None] | None = None


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is trained, evaluated and saved."""

    record: EpochRecord
    checkpoint: CheckpointFiles


@dataclass(frozen=True)
class StateSaved:
    """So many steps of an epoch are done, and the run could go on from here.

    `global_epoch` counts this epoch, too. What a caller makes of it replaces an earlier state, and an epoch's
    end replaces it.
    """

    stage: str
    stage_index: int
    epoch: int
    global_epoch: int
    step: int
    state: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class StageEnded:
    """A stage is over: all its epochs were run, or early stopping ended it."""

    stage: str
    stage_index: int
    epochs: int
    stopped_early: bool


@dataclass(frozen=True)
class Warned:
    """Something that is allowed and that its owner should know."""

    message: str


@dataclass(frozen=True)
class ReportFiles:
    """The report on the best checkpoint, and the predictions that it is made of; sizes are in bytes."""

    report: Path
    sha256: str
    size: int
    predictions: Path
    predictions_sha256: str
    predictions_size: int


@dataclass(frozen=True)
class ReportReady:
    """The best checkpoint (`weights`) was loaded anew and has given its score again; the report is written.

    `figures` and `reproduced` are those of the report: see `finetune.report.fields`. It took `seconds`.
    """

    weights: Path
    files: ReportFiles
    figures: dict[str, float | None]
    reproduced: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class RunEnded:
    """All stages are done. `result` holds the last epoch's figures and the best epoch's."""

    result: dict[str, Any]


Event = (
    RunStarted
    | FilesSkipped
    | StageStarted
    | FeaturesReady
    | CompileChosen
    | Progress
    | EpochEnded
    | StateSaved
    | StageEnded
    | Warned
    | ReportReady
    | RunEnded
)
