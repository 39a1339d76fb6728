"""torchvision's reference training loop, written after `references/classification`, which no wheel has.

A process of the benchmarks, run in the peers' environment. Options: `workers`; `channels_last`, which the
references have no flag for. Their `--amp` is CUDA's alone. Freezing is by hand: they have no flag for it, so
gradients are off, and BatchNorm's statistics move.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision.datasets import ImageFolder
from torchvision.models import get_model
from torchvision.transforms import transforms

from benchmarks.records import Course, Record
from benchmarks.stages import run
from benchmarks.work import IMAGENET, Task, Work


def preset(work: Work, split: str) -> transforms.Compose:
    """What `presets.py` does to a Pillow image."""
    views = {
        "train": [
            transforms.RandomResizedCrop(work.image_size, scale=work.crop_scale),
            transforms.RandomHorizontalFlip(0.5),
        ],
        "val": [transforms.Resize(work.resized), transforms.CenterCrop(work.image_size)],
    }
    after = [
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(*IMAGENET),
    ]
    return transforms.Compose([*views[split], *after])


def loader(work: Work, split: str, workers: int) -> "DataLoader[tuple[Tensor, Tensor]]":
    """The references' loader; its pinned memory is for a GPU."""
    dataset = ImageFolder(str(Path(work.data) / split), preset(work, split))
    sampler = RandomSampler(dataset) if split == "train" else SequentialSampler(dataset)
    return DataLoader(dataset, batch_size=work.batch_size, sampler=sampler, num_workers=workers)


class Meter:
    """A running mean, as the references' metric logger keeps it for each step."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def update(self, value: float, count: int = 1) -> None:
        """Counts a value `count` times."""
        self._total, self._count = self._total + value * count, self._count + count

    @property
    def mean(self) -> float:
        """Of all values."""
        return self._total / max(self._count, 1)


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """The references' top-1 accuracy of a batch, in percent."""
    with torch.inference_mode():
        _, predictions = outputs.topk(1, 1, True, True)
        return predictions.t().eq(labels[None])[:1].flatten().sum(dtype=torch.float32) * (100 / len(labels))


class Training:
    """The references' `train_one_epoch` and `evaluate`."""

    head = "fc"

    def __init__(self, task: Task, record: Record, course: Course) -> None:
        work = task.work
        torch.manual_seed(work.seed)
        self._work, self._record, self._course = work, record, course
        classes = len(list((Path(work.data) / "train").iterdir()))
        self.model = get_model(work.network, weights=None, num_classes=classes)
        self._last = bool(task.options.get("channels_last"))
        if self._last:
            self.model.to(memory_format=torch.channels_last)
        workers = int(task.options.get("workers", 0))
        self._loaders = {split: loader(work, split, workers) for split in ("train", "val")}
        self._loss = nn.CrossEntropyLoss()

    def run_stage(self, stage: str) -> None:
        """The classifier alone takes gradients, or everything does."""
        work = self._work
        self.model.requires_grad_(stage != "head")
        self.model.fc.requires_grad_(True)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        rate = work.head_rate if stage == "head" else work.full_rate
        optimizer = torch.optim.SGD(trained, lr=rate, momentum=work.momentum)
        for _ in range(work.epochs(stage)):
            with self._course.training(stage):
                self._train(stage, optimizer)
            self._record.accuracy.append(self._evaluate(stage))

    def _train(self, stage: str, optimizer: torch.optim.Optimizer) -> None:
        self.model.train()
        losses, top1, rate = Meter(), Meter(), Meter()
        for images, labels in self._loaders["train"]:
            begun = time.time()
            if self._last:
                images = images.contiguous(memory_format=torch.channels_last)
            outputs = self.model(images)
            loss = self._loss(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item())
            top1.update(accuracy(outputs, labels).item(), len(labels))
            rate.update(len(labels) / (time.time() - begun))
            self._course.add_training(stage, 0.0, len(labels))

    @torch.inference_mode()
    def _evaluate(self, stage: str) -> float:
        self.model.eval()
        losses, top1 = Meter(), Meter()
        for images, labels in self._loaders["val"]:
            if self._last:
                images = images.contiguous(memory_format=torch.channels_last)
            outputs = self.model(images)
            losses.update(self._loss(outputs, labels).item())
            top1.update(accuracy(outputs, labels).item(), len(labels))
            self._course.add_validated(stage, len(labels))
        return top1.mean / 100


if __name__ == "__main__":
    run(Training)
