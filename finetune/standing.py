"""Where a run stands: what it has done, what was best, how long it has waited. Kept with every checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from finetune.events import EpochRecord
from finetune.spec.objectives import lower_is_better
from finetune.spec.stages import StageSpec


def better(metric: str, value: float | None, than: float | None) -> bool:
    """Whether a value beats another: a loss by being lower, all else by being higher; None is not finite."""
    if value is None:
        return False
    if than is None:
        return True
    return value < than if lower_is_better(metric) else value > than


@dataclass(frozen=True)
class Standing:
    """A run after an epoch. `epoch` counts the epochs done in the stage, `global_epoch` in the whole run."""

    stage_index: int = 0
    epoch: int = 0
    global_epoch: int = 0
    stage_over: bool = False
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    waited: int = 0
    stage_best: float | None = None
    best_in_stage: float | None = None  # by the metric that chooses checkpoints
    is_stage_best: bool = False  # whether the last epoch is the one with it
    stuck: int = 0  # epochs in a row in which the stage has learnt nothing

    def has_done(self, stage_index: int) -> bool:
        """Whether a stage is over."""
        return stage_index < self.stage_index or (stage_index == self.stage_index and self.stage_over)

    def is_within(self, stage_index: int) -> bool:
        """Whether the run stands in a stage that is not over; the first one counts before its first epoch."""
        return stage_index == self.stage_index and not self.stage_over

    def enter(self, stage_index: int) -> "Standing":
        """At the start of a stage, or within it if that is where the run stands."""
        if self.is_within(stage_index):
            return self
        return replace(
            self,
            stage_index=stage_index,
            epoch=0,
            stage_over=False,
            waited=0,
            stage_best=None,
            best_in_stage=None,
            is_stage_best=False,
            stuck=0,
        )

    def after_epoch(
        self, record: EpochRecord, figures: Mapping[str, float | None], stage: StageSpec, metric: str
    ) -> "Standing":
        """After one more epoch of a stage; `metric` of the figures decides whether it is the best one."""
        waited, stage_best = self.waited, self.stage_best
        stop = False
        if stage.early_stopping is not None:
            value = _value(stage.early_stopping.metric, figures)
            waited = 0 if better(stage.early_stopping.metric, value, stage_best) else waited + 1
            stage_best = value if waited == 0 else stage_best
            stop = waited >= stage.early_stopping.patience
        last: dict[str, Any] = {
            "stage": record.stage,
            "global_epoch": record.global_epoch,
            "train": record.train,
            "val": record.val,
        }
        if record.val_ema is not None:
            last["val_ema"] = record.val_ema
        value = _value(metric, figures)
        is_stage_best = better(metric, value, self.best_in_stage)
        is_best = self.best is None or better(metric, value, self.best["value"])
        return replace(
            self,
            epoch=record.epoch,
            global_epoch=record.global_epoch,
            stage_over=stop or record.epoch == stage.epochs,
            best={"metric": metric, "value": value, **last} if is_best else self.best,
            last=last,
            waited=waited,
            stage_best=stage_best,
            best_in_stage=value if is_stage_best else self.best_in_stage,
            is_stage_best=is_stage_best,
        )

    def to_state(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Standing":
        """The inverse of `to_state`."""
        return cls(**state)


def _value(metric: str, figures: Mapping[str, float | None]) -> float | None:
    return figures[metric.removeprefix("val_")]
