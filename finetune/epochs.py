"""An epoch: its steps, its validation, its record. Wherever it is left, the run can go on from there."""

import math
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from finetune.compiling import Forward
from finetune.events import EpochRecord, Event
from finetune.feeds import Feed, Labelled
from finetune.objectives import Evaluation
from finetune.run import Run
from finetune.saving import replace_state, save_within
from finetune.seeds import derive
from finetune.stepping import Stepper, grouped
from finetune.stopping import Stopped, Stopping
from finetune.under_way import UnderWay

Item = TypeVar("Item")
Evaluations = tuple[Evaluation, Evaluation | None]  # of the weights, and of their moving average if any


def train_epoch(
    run: Run,
    feed: Feed,
    forward: Forward,
    stepper: Stepper,
    epoch: UnderWay,
    stopping: Stopping,
    keep_all: bool,
) -> Iterator[Event]:
    """Trains what is left of an epoch, and saves where the spec or somebody who stops the run says so.

    Raises:
        Stopped: the run is to end, and what it had done is saved.
        NonfiniteLoss: a loss was NaN or infinite.
    """
    every = run.spec.checkpoints.every_steps
    for batches in _steps(feed, epoch):
        run.compute.seed(derive(run.spec.seed, "step", epoch.index, epoch.epoch, epoch.step))
        rates = epoch.table.rates(epoch.epoch, epoch.step)
        epoch.watch.add(stepper.step(batches, rates, forward, epoch.tally))
        rate = epoch.clock.images(sum(len(batch.labels) for batch in batches))
        yield run.progress(epoch.index, epoch.table, epoch.epoch, epoch.step, rate)
        epoch.step += 1
        due = every is not None and epoch.step % every == 0 and not epoch.trained
        if due or stopping.asked:
            yield from _saved(run, stepper, epoch, keep_all)
            stopping.check()
    epoch.watch.finish()
    stepper.release_gradients()


def _steps(feed: Feed, epoch: UnderWay) -> Iterator[list[Labelled]]:
    """The batches of each step that is left."""
    if epoch.trained:
        return
    batches = epoch.clock.timed(feed.train(epoch.epoch, epoch.batches))
    yield from grouped(batches, epoch.table.stage.accumulate)


def _saved(run: Run, stepper: Stepper, epoch: UnderWay, keep_all: bool) -> Iterator[Event]:
    epoch.clock.lap("train")
    saved = save_within(run, stepper, epoch)
    epoch.clock.lap("checkpoint")
    yield saved
    if not keep_all:
        replace_state(run, saved)


def validate(
    run: Run, feed: Feed, stepper: Stepper, epoch: UnderWay, stopping: Stopping, keep_all: bool
) -> Generator[Event, None, Evaluations]:
    """Evaluates the network after an epoch's last step, in eval mode.

    Raises:
        Stopped: the run is to end, and what it had done is saved.
    """
    forward = run.compute.evaluating(feed.forward)
    run.model.eval()
    try:
        of_weights = run.objective.evaluate(forward, _unless(stopping, feed.val()))
        if stepper.average is None:
            return of_weights, None
        with stepper.average.in_place_of(run.model):
            return of_weights, run.objective.evaluate(forward, _unless(stopping, feed.val()))
    except Stopped:
        yield from _saved(run, stepper, epoch, keep_all)
        raise


def _unless(stopping: Stopping, items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        stopping.check()
        yield item


def record_of(run: Run, epoch: UnderWay, evaluations: Evaluations) -> EpochRecord:
    """The figures of an epoch, but for its times."""
    of_weights, of_average = evaluations
    train = epoch.tally.figures()
    figures = [*train.values(), *of_weights.figures.values()]
    return EpochRecord(
        stage=epoch.table.name,
        stage_index=epoch.index,
        epoch=epoch.epoch + 1,
        global_epoch=run.standing.global_epoch + 1,
        lr=epoch.table.rates(epoch.epoch, 0),
        train=_finite(train),
        val=_finite(of_weights.figures),
        images_per_second=epoch.clock.rate(),
        seconds={},
        peak_memory_bytes=run.compute.peak_memory_bytes(),
        nonfinite=not all(map(math.isfinite, figures)),
        val_ema=_finite(of_average.figures) if of_average else None,
    )


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
