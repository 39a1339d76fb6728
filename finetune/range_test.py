"""The range test: which learning rate a stage can bear, found by trying (Smith 2017).

The rate grows from step to step, evenly on a log scale, until the loss breaks out. The network is put back
afterwards, to the bit.
"""

import math
from collections.abc import Iterator
from typing import Any

from finetune import freezing
from finetune.events import Event, Progress, RunEnded
from finetune.feeds import Feed, Labelled
from finetune.modules import copy_of_state
from finetune.run import Run
from finetune.seeds import derive
from finetune.spec.job import RangeTest
from finetune.stepping import grouped
from finetune.tables import StageTables

SMOOTHING = 0.9  # of the loss, a moving average freed from its start at zero
BREAKS_OUT = 4.0  # times the lowest smoothed loss, and above the first: where the test ends
BELOW_THE_LOWEST = 10.0  # the suggestion is the rate of the lowest smoothed loss over this


def search(run: Run, test: RangeTest) -> Iterator[Event]:
    """Tries the rates of a range test on the run's first stage; ends with the curve and a suggestion."""
    table, model = run.tables[0], run.model
    before = copy_of_state(model)
    freezing.apply(model, table.freezing)
    stepper, feed, tally = run.stepper(table), run.feed(0, table), run.objective.tally()
    freezing.set_training_mode(model, table.freezing)
    curve, diverged_at = Curve(), None
    for step, batches in zip(range(test.steps), _endless(feed, table), strict=False):
        lr = rate(test, step)
        run.compute.seed(derive(run.spec.seed, "range test", step))
        rates = {group.name: lr * group.factor for group in table.grouping.groups}
        loss = stepper.step(batches, rates, feed, tally).item()
        if not math.isfinite(loss) or curve.breaks_out(lr, loss):
            diverged_at = lr
            break
        yield Progress(table.name, 0, 1, 1, 1, step + 1, test.steps, 0.0, None)
    stepper.release_gradients()
    model.load_state_dict(before)
    suggestion, reason = suggest(curve.points)
    found = {
        "stage": table.name,
        "curve": curve.points,
        "suggestion": suggestion,
        "reason": reason,
        "diverged_at": diverged_at,
    }
    yield RunEnded({"range_test": found})


class Curve:
    """The losses of a range test, smoothed by a moving average that is freed from its start at zero.

    A loss of exactly 0 is of a batch that had nothing to learn from, as no triplet of it counted: it says
    nothing of the rate, and moves nothing.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []
        self._average, self._counted, self._smoothed = 0.0, 0, 0.0
        self._first, self._lowest = 0.0, math.inf

    def breaks_out(self, lr: float, loss: float) -> bool:
        """Takes a step's loss, and says whether it has left all that came before below it."""
        if loss > 0:
            self._counted += 1
            self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
            self._smoothed = self._average / (1 - SMOOTHING**self._counted)
            self._first = self._first or self._smoothed
            self._lowest = min(self._lowest, self._smoothed)
        point = {"step": len(self.points) + 1, "lr": lr, "loss": loss, "smoothed": self._smoothed}
        self.points.append(point)
        return self._smoothed > max(BREAKS_OUT * self._lowest, self._first)


def rate(test: RangeTest, step: int) -> float:
    """The rate of a step (from 0): evenly on a log scale from the first to the last."""
    part = step / (test.steps - 1)
    return float(test.start_lr * (test.end_lr / test.start_lr) ** part)


def suggest(curve: list[dict[str, Any]]) -> tuple[float | None, str]:
    """A rate from the curve, or None, and why."""
    if not curve:
        return None, "the loss was not finite at the first step: start with a smaller rate"
    if not any(point["loss"] > 0 for point in curve):
        return None, "the loss was 0 at every step: there is nothing to learn, at any rate"
    counted = [step for step, point in enumerate(curve) if point["loss"] > 0]
    best = min(counted, key=lambda step: curve[step]["smoothed"])
    lowest = curve[best]
    if best == 0 or lowest["smoothed"] > 0.99 * curve[0]["smoothed"]:
        return None, "the loss did not fall at any rate of the range: take other rates, or more steps"
    where = f"the smoothed loss is lowest, {lowest['smoothed']:.4g}, at a rate of {lowest['lr']:.3g}"
    if best == len(curve) - 1:
        where += ", the end of the range: larger rates may do as well"
    return lowest["lr"] / BELOW_THE_LOWEST, f"a tenth of the rate at which {where}"


def _endless(feed: Feed, table: StageTables) -> Iterator[list[Labelled]]:
    epoch = 0
    while True:
        yield from grouped(feed.train(epoch), table.stage.accumulate)
        epoch += 1
