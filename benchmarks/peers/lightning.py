"""Lightning: a module, a trainer, and its callback `BackboneFinetuning`, which thaws the backbone by itself.

A process of the benchmarks, run in the peers' environment. Options: `workers`; `channels_last`; `bf16`, which
is the trainer's `precision="bf16-mixed"`. The callback's default (`train_bn`) leaves BatchNorm's weights
their gradients in the frozen part, and its statistics move. A checkpoint is written after each epoch, by
default.
"""

import time
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning, Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import get_model

from benchmarks.frozen import Frozen
from benchmarks.peers.views import views
from benchmarks.records import Course, Record
from benchmarks.work import Task, Work


class FineTuned(LightningModule):
    """A backbone and a head, as the callback's documentation has them."""

    def __init__(self, work: Work, classes: int, channels_last: bool) -> None:
        super().__init__()
        network = get_model(work.network, weights=None)
        self.backbone = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
        self.head = nn.Linear(network.fc.in_features, classes)
        self._work, self._channels_last = work, channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.backbone(images))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Loss and accuracy."""
        images, labels = batch
        outputs = self(images)
        self.log("val_loss", nn.functional.cross_entropy(outputs, labels))
        self.log("val_accuracy", (outputs.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the head; the callback adds the backbone."""
        return torch.optim.SGD(self.head.parameters(), lr=self._work.head_rate, momentum=self._work.momentum)


class Watch(Callback):
    """Ends the laps of the stages, tells training from validation, and counts images."""

    def __init__(self, task: Task, record: Record, course: Course, frozen: Frozen) -> None:
        self._work, self._record, self._course, self._frozen = task.work, record, course, frozen
        self._begun = 0.0

    def _stage(self, trainer: Trainer) -> str:
        return "head" if trainer.current_epoch < self._work.head_epochs else "full"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What came before was preparation."""
        self._course.lap("preparing")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch begins; the first after the head's ends the head stage."""
        if trainer.current_epoch == self._work.head_epochs > 0:
            self._course.lap("head")
        self._begun = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: list[Tensor],
        batch_idx: int,
    ) -> None:
        """A batch is done; what follows until the next is loading, or validation."""
        now = time.monotonic()
        self._course.add_training(self._stage(trainer), now - self._begun, len(batch[1]))
        self._begun = now

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: list[Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch was evaluated."""
        self._course.add_validated(self._stage(trainer), len(batch[1]))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch was evaluated; after the head's last one looks at what moved."""
        self._record.accuracy.append(float(trainer.callback_metrics["val_accuracy"]))
        if trainer.current_epoch == self._work.head_epochs - 1:
            self._record.notes["while frozen"] = self._frozen.moved()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is done."""
        self._course.lap(self._stage_before(trainer))

    def _stage_before(self, trainer: Trainer) -> str:
        return "full" if self._work.full_epochs else "head"


def main() -> None:
    """Does the task and tells what it took."""
    warnings.filterwarnings("ignore", module="lightning")  # advice about workers, which were searched for
    task = Task.read()
    record = Record(task.row)
    course = Course(record)
    course.lap("imports")
    work, workers = task.work, int(task.options.get("workers", 0))
    seed_everything(work.seed, verbose=False)
    datasets = {s: ImageFolder(str(Path(work.data) / s), views(work, s)) for s in ("train", "val")}
    loaders = {
        split: DataLoader(
            dataset,
            batch_size=work.batch_size,
            shuffle=split == "train",
            num_workers=workers,
            persistent_workers=workers > 0,  # what Lightning advises
        )
        for split, dataset in datasets.items()
    }
    model = FineTuned(work, len(datasets["train"].classes), bool(task.options.get("channels_last")))
    thawing = BackboneFinetuning(work.head_epochs, backbone_initial_lr=work.full_rate)
    trainer = Trainer(
        max_epochs=work.head_epochs + work.full_epochs,
        accelerator="cpu",
        precision="bf16-mixed" if task.options.get("bf16") else "32-true",
        callbacks=[thawing, Watch(task, record, course, Frozen(model, "head"))],
        default_root_dir=task.folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, loaders["train"], loaders["val"])
    record.tell()


if __name__ == "__main__":
    main()
