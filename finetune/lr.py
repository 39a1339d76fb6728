"""Learning rates: pure functions of (stage, epoch, step). No scheduler has a state.

A schedule is a row of `SCHEDULES`: its model, and a function that gives the rate at a `Moment`. Epochs and
steps count from 0 here. Schedules that move at every step take the part of the stage that has gone by at the
step's start, as torch's schedulers of the same names do when they are stepped once a step.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.spec import schedules as s
from finetune.spec.stages import StageSpec


@dataclass(frozen=True)
class Moment:
    """A step of a stage: `epoch` of `epochs`, and step `step` of `steps` of the whole stage."""

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def progress(self) -> float:
        """The part of the stage that has gone by, in [0, 1)."""
        return self.step / self.steps


def _listed(schedule: s.Listed, at: Moment) -> float:
    entry = schedule.values[bisect_right(schedule.ends, at.epoch)]
    return entry[0] if isinstance(entry, list) else entry


def _logspace(schedule: s.Logspace, at: Moment) -> float:
    last = (schedule.num or at.epochs) - 1
    part = at.epoch / last if last else 0.0
    return float(10 ** (schedule.start + (schedule.stop - schedule.start) * part))


def _multistep(schedule: s.MultiStep, at: Moment) -> float:
    return float(schedule.lr * schedule.gamma ** bisect_right(schedule.milestones, at.epoch))


def _polynomial(schedule: s.Polynomial, at: Moment) -> float:
    left = (1 - at.progress) ** schedule.power
    return float(schedule.end_lr + (schedule.lr - schedule.end_lr) * left)


def _between(start: float, end: float, part: float) -> float:
    """From start (part 0) to end (part 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def _one_cycle(schedule: s.OneCycle, at: Moment) -> float:
    start = schedule.max_lr / schedule.div
    peak, last = schedule.pct_start * at.steps - 1, at.steps - 1
    if at.step <= peak:
        return _between(start, schedule.max_lr, at.step / peak if peak else 1.0)
    return _between(schedule.max_lr, start / schedule.final_div, (at.step - peak) / (last - peak))


SCHEDULES: dict[type[Any], Callable[[Any, Moment], float]] = {
    s.Constant: lambda c, at: c.lr,
    s.Listed: _listed,
    s.Logspace: _logspace,
    s.Step: lambda c, at: c.lr * c.gamma ** (at.epoch // c.every),
    s.MultiStep: _multistep,
    s.Exponential: lambda c, at: c.lr * c.gamma**at.epoch,
    s.Linear: lambda c, at: c.lr + (c.end_lr - c.lr) * at.progress,
    s.Cosine: lambda c, at: _between(c.lr, c.end_lr, at.progress),
    s.Polynomial: _polynomial,
    s.OneCycle: _one_cycle,
}

WARMUP_START = 0.1  # the warm-up's first rate, as a part of the schedule's first value


def learning_rate(stage: StageSpec, steps_per_epoch: int, epoch: int, step: int) -> float:
    """The schedule's value at a step (0-based) of an epoch (0-based) of the stage, warm-up included.

    The warm-up is a straight line from a tenth of the schedule's first value to its value where it ends.
    """
    schedule, value = stage.lr.schedule, SCHEDULES[type(stage.lr.schedule)]
    steps = stage.epochs * steps_per_epoch

    def at(step: int) -> float:
        return value(schedule, Moment(step // steps_per_epoch, stage.epochs, step, steps))

    now = epoch * steps_per_epoch + step
    warmup = round(stage.lr.warmup_epochs * steps_per_epoch)
    if now >= warmup:
        return at(now)
    start, end = WARMUP_START * at(0), at(min(warmup, steps - 1))
    return start + (end - start) * now / warmup


def group_rates(
    stage: StageSpec, factors: Mapping[str, float], steps_per_epoch: int, epoch: int, step: int
) -> dict[str, float]:
    """The learning rate of each group by name: schedule value × the group's factor."""
    rate = learning_rate(stage, steps_per_epoch, epoch, step)
    return {name: rate * factor for name, factor in factors.items()}


def unusable_rate(stage: StageSpec) -> str | None:
    """A sentence where the schedule leaves the range of numbers (gamma above 1, many epochs), else None."""
    for epoch in range(stage.epochs):
        try:
            rate = learning_rate(stage, 1, epoch, 0)
        except OverflowError:
            rate = math.inf
        if not math.isfinite(rate):
            return f"the learning rate of epoch {epoch + 1} is not a finite number"
    return None
