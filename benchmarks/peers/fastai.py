"""fastai: `vision_learner`, `freeze`, `fit`, `unfreeze`, `fit`.

A process of the benchmarks, run in the peers' environment. Options: `workers`; `channels_last`, which is
`to_channelslast`, here without its mixed precision: that is CUDA's alone. By default (`train_bn`) BatchNorm
is trained in the frozen part, too, and the training loader drops the last short batch.
"""

import time
from functools import partial
from pathlib import Path

from fastai.callback.channelslast import ChannelsLast  # noqa: F401  # gives learners `to_channelslast`
from fastai.vision.all import (
    SGD,
    Callback,
    FlipItem,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
    set_seed,
    vision_learner,
)
from torchvision.models import get_model_builder

from benchmarks.records import Course, Record
from benchmarks.stages import run
from benchmarks.work import Task


class Watch(Callback):
    """Tells training from validation, and counts images."""

    def __init__(self, course: Course) -> None:
        self.course, self.stage, self.begun = course, "head", 0.0

    def before_train(self) -> None:
        """An epoch's training begins."""
        self.begun = time.monotonic()

    def after_train(self) -> None:
        """It is over."""
        self.course.add_training(self.stage, time.monotonic() - self.begun)

    def after_batch(self) -> None:
        """A batch of either kind is done."""
        if self.training:
            self.course.add_training(self.stage, 0.0, len(self.y))
        else:
            self.course.add_validated(self.stage, len(self.y))


def learner(task: Task) -> Learner:
    """The learner, with the work's crops and flips."""
    work = task.work
    set_seed(work.seed)
    loaders = ImageDataLoaders.from_folder(
        Path(work.data),
        train="train",
        valid="val",
        item_tfms=[
            RandomResizedCrop(work.image_size, min_scale=work.crop_scale[0], max_scale=work.crop_scale[1]),
            FlipItem(0.5),
        ],
        batch_tfms=Normalize.from_stats(*imagenet_stats),
        bs=work.batch_size,
        num_workers=int(task.options.get("workers", 0)),
    )
    made = vision_learner(
        loaders,
        get_model_builder(work.network),
        pretrained=False,
        metrics=accuracy,
        opt_func=partial(SGD, mom=work.momentum),
        moms=(work.momentum,) * 3,
    )
    return made.to_channelslast(use_amp=False) if task.options.get("channels_last") else made


class Training:
    """Both stages with one learner."""

    head = "1"  # of the body and the head

    def __init__(self, task: Task, record: Record, course: Course) -> None:
        self._work, self._record, self._watch = task.work, record, Watch(course)
        self._learner = learner(task)
        self._learner.add_cb(self._watch)
        self.model = self._learner.model

    def run_stage(self, stage: str) -> None:
        """Everything but the head frozen, or nothing."""
        work, made = self._work, self._learner
        self._watch.stage = stage
        (made.freeze if stage == "head" else made.unfreeze)()
        with made.no_bar(), made.no_logging():
            made.fit(work.epochs(stage), work.head_rate if stage == "head" else work.full_rate)
        self._record.accuracy += [float(row[-1]) for row in made.recorder.values]


if __name__ == "__main__":
    run(Training)
