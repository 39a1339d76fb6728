"""timm: its data, its optimizer factory, its freezing, in the loop of its training script.

A process of the benchmarks, run in the peers' environment. Options: `workers`; `channels_last`; `bf16`, which
is the script's `--amp --amp-dtype bfloat16`; `gradients_off`, which freezes by `requires_grad` alone, where
timm's function also stops BatchNorm, with layers of its own. As in the script the training loader drops the
last short batch, and its processes stay from epoch to epoch.
"""

import contextlib
from functools import partial
from pathlib import Path

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy
from timm.utils.model import freeze, unfreeze
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.records import Course, Record
from benchmarks.stages import run
from benchmarks.work import Task, Work


def loader(work: Work, split: str, workers: int) -> "DataLoader[tuple[Tensor, Tensor]]":
    """The loader with the work's crops and flips, and none of the changes of colour that it has besides."""
    return create_loader(
        create_dataset("", root=str(Path(work.data)), split=split),
        input_size=(3, work.image_size, work.image_size),
        batch_size=work.batch_size,
        is_training=split == "train",
        scale=work.crop_scale,
        hflip=0.5,
        color_jitter=0.0,
        interpolation="bilinear",
        crop_pct=work.image_size / work.resized,
        num_workers=workers,
        device=torch.device("cpu"),
        use_prefetcher=False,  # what the script does without a GPU
    )


class Training:
    """The script's `train_one_epoch` and `validate`, less what is said of a GPU and of several."""

    head = "fc"

    def __init__(self, task: Task, record: Record, course: Course) -> None:
        work = task.work
        torch.manual_seed(work.seed)
        self._work, self._record, self._course = work, record, course
        classes = len(list((Path(work.data) / "train").iterdir()))
        self.model = timm.create_model(work.network, pretrained=False, num_classes=classes)
        self._last = bool(task.options.get("channels_last"))
        if self._last:
            self.model.to(memory_format=torch.channels_last)
        narrow = partial(torch.autocast, device_type="cpu", dtype=torch.bfloat16)
        self._autocast = narrow if task.options.get("bf16") else contextlib.nullcontext
        workers = int(task.options.get("workers", 0))
        self._loaders = {split: loader(work, split, workers) for split in ("train", "val")}
        self._loss = nn.CrossEntropyLoss()
        self._by_hand = bool(task.options.get("gradients_off"))

    def run_stage(self, stage: str) -> None:
        """Everything but the classifier frozen, or nothing."""
        if self._by_hand:
            self.model.requires_grad_(stage != "head")
            self.model.fc.requires_grad_(True)
        else:
            body = [name for name, _ in self.model.named_children() if name != self.head]
            (freeze if stage == "head" else unfreeze)(self.model, body)
        rate = self._work.head_rate if stage == "head" else self._work.full_rate
        optimizer = create_optimizer_v2(self.model, opt="sgd", lr=rate, momentum=self._work.momentum)
        for _ in range(self._work.epochs(stage)):
            with self._course.training(stage):
                self._train(stage, optimizer)
            self._record.accuracy.append(self._validate(stage))

    def _train(self, stage: str, optimizer: torch.optim.Optimizer) -> None:
        losses = AverageMeter()
        self.model.train()
        for images, labels in self._loaders["train"]:
            if self._last:
                images = images.contiguous(memory_format=torch.channels_last)
            with self._autocast():
                loss = self._loss(self.model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), len(labels))
            self._course.add_training(stage, 0.0, len(labels))

    @torch.inference_mode()
    def _validate(self, stage: str) -> float:
        top1 = AverageMeter()
        self.model.eval()
        for images, labels in self._loaders["val"]:
            if self._last:
                images = images.contiguous(memory_format=torch.channels_last)
            with self._autocast():
                outputs = self.model(images)
                self._loss(outputs, labels)
            top1.update(accuracy(outputs, labels)[0].item(), len(labels))
            self._course.add_validated(stage, len(labels))
        return top1.avg / 100


if __name__ == "__main__":
    run(Training)
