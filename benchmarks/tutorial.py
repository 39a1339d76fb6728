"""The plain loop of PyTorch's transfer-learning tutorial, both of its scenarios one after the other.

A process of the benchmarks (see `benchmarks.run`). As published: ImageFolder, torchvision's transforms on
Pillow images, DataLoader, `requires_grad = False` for the frozen stage and no more (so BatchNorm's statistics
move there), SGD, a look at the loss after each batch, the best weights saved. Options: `workers`, the
loader's processes; `channels_last` and `bf16`, what a reader may add by hand.
"""

import contextlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.networks import Network, build
from benchmarks.records import Course, Record
from benchmarks.stages import run
from benchmarks.work import Task, Work

Loaders = dict[str, "DataLoader[tuple[Tensor, Tensor]]"]


class Tutorial:
    """The loop, and what it needs."""

    def __init__(self, task: Task, record: Record, course: Course) -> None:
        self._work, self._record, self._course = task.work, record, course
        self._channels_last = bool(task.options.get("channels_last"))
        self._bf16 = bool(task.options.get("bf16"))
        self._saved = Path(task.folder) / "best_model_params.pt"
        self._network = build(task.work, len(list((Path(task.work.data) / "train").iterdir())))
        self._loaders = loaders(task.work, self._network, int(task.options.get("workers", 0)))
        self.model, self.head = self._network.model, self._network.head
        if self._channels_last:
            self.model.to(memory_format=torch.channels_last)

    def run_stage(self, stage: str) -> None:
        """The head with everything else frozen, or everything."""
        work, network = self._work, self._network
        network.freeze(stage)
        rate = work.head_rate if stage == "head" else work.full_rate
        optimizer = SGD(network.parameters(stage), lr=rate, momentum=work.momentum)
        steps = work.epochs(stage) * len(self._loaders["train"])
        falls = stage == "full" and work.full_rate_falls
        scheduler = LambdaLR(optimizer, lambda step: 1 - step / steps if falls else 1.0)
        best = 0.0
        for _ in range(work.epochs(stage)):
            with self._course.training(stage):
                self._train(stage, optimizer, scheduler)
            accuracy = self._validate(stage)
            self._record.accuracy.append(accuracy)
            if accuracy > best:
                best = accuracy
                torch.save(self.model.state_dict(), self._saved)

    def _train(self, stage: str, optimizer: SGD, scheduler: LambdaLR) -> None:
        self.model.train()
        for images, labels in self._loaders["train"]:
            optimizer.zero_grad()
            outputs, loss = self._answer(images, labels)
            _, predictions = torch.max(outputs, 1)
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
            loss.item()
            torch.sum(predictions == labels)
            self._course.add_training(stage, 0.0, len(labels))

    @torch.no_grad()
    def _validate(self, stage: str) -> float:
        self.model.eval()
        right = 0
        for images, labels in self._loaders["val"]:
            outputs, loss = self._answer(images, labels)
            loss.item()
            right += int((outputs.argmax(1) == labels).sum())
            self._course.add_validated(stage, len(labels))
        return right / self._work.validated

    def _answer(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        narrow = torch.autocast("cpu", torch.bfloat16) if self._bf16 else contextlib.nullcontext()
        with narrow:
            outputs = self.model(images)
            return outputs, nn.functional.cross_entropy(outputs, labels)


def loaders(work: Work, network: Network, workers: int) -> Loaders:
    """The tutorial's data loaders."""
    to_tensor = [transforms.ToTensor(), transforms.Normalize(network.mean, network.std)]
    views = {
        "train": [
            transforms.RandomResizedCrop(work.image_size, scale=work.crop_scale),
            transforms.RandomHorizontalFlip(),
        ],
        "val": [transforms.Resize(work.resized), transforms.CenterCrop(work.image_size)],
    }
    return {
        split: DataLoader(
            datasets.ImageFolder(str(Path(work.data) / split), transforms.Compose([*view, *to_tensor])),
            batch_size=work.batch_size,
            shuffle=split == "train",
            num_workers=workers,
        )
        for split, view in views.items()
    }


if __name__ == "__main__":
    run(Tutorial)
