"""The Hugging Face Trainer, after its example for image classification: one trainer for each stage.

A process of the benchmarks, run in the peers' environment. Options: `workers`; `channels_last`; `bf16`, which
is the trainer's flag. The backbone's gradients are off in the head stage, as its documentation freezes a base
model; BatchNorm's statistics move.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import ImageFolder
from transformers import (
    AutoModelForImageClassification,
    EvalPrediction,
    ResNetConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from benchmarks.peers.views import views
from benchmarks.records import Course, Record
from benchmarks.stages import run
from benchmarks.work import Task, Work

RESNETS = {
    "resnet18": ResNetConfig(layer_type="basic", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2]),
    "resnet50": ResNetConfig(),
}


class Photographs(torch.utils.data.Dataset[dict[str, Any]]):
    """A split, as the trainer wants it."""

    def __init__(self, work: Work, split: str) -> None:
        self._folder = ImageFolder(str(Path(work.data) / split), views(work, split))
        self.classes = self._folder.classes

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self._folder[index]
        return {"pixel_values": image, "labels": label}


class Collate:
    """Makes a batch of samples, in the order of bytes that the network has."""

    def __init__(self, channels_last: bool) -> None:
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Images and labels."""
        images = torch.stack([sample["pixel_values"] for sample in samples])
        labels = torch.tensor([sample["labels"] for sample in samples])
        return {"pixel_values": images.contiguous(memory_format=self._format), "labels": labels}


class Watch(TrainerCallback):
    """Tells training from validation."""

    def __init__(self, stage: str, course: Course) -> None:
        self._stage, self._course, self._begun = stage, course, 0.0

    def on_epoch_begin(self, *given: object, **more: object) -> None:
        """An epoch's training begins."""
        self._begun = time.monotonic()

    def on_epoch_end(self, *given: object, **more: object) -> None:
        """It is over; evaluation follows."""
        self._course.add_training(self._stage, time.monotonic() - self._begun)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The example's metric."""
    predicted = np.argmax(prediction.predictions, axis=1)
    return {"accuracy": float((predicted == prediction.label_ids).mean())}


class Training:
    """Both stages on one network, with a trainer for each."""

    head = "classifier"

    def __init__(self, task: Task, record: Record, course: Course) -> None:
        self._task, self._record, self._course = task, record, course
        work, config = task.work, RESNETS[task.work.network]
        set_seed(work.seed)
        self._train, self._val = Photographs(work, "train"), Photographs(work, "val")
        config.num_labels = len(self._train.classes)
        self.model = AutoModelForImageClassification.from_config(config)
        self._channels_last = bool(task.options.get("channels_last"))
        if self._channels_last:
            self.model.to(memory_format=torch.channels_last)

    def run_stage(self, stage: str) -> None:
        """The base model without gradients, or everything."""
        work = self._task.work
        self.model.base_model.requires_grad_(stage != "head")
        rate = work.head_rate if stage == "head" else work.full_rate
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        trainer = Trainer(
            self.model,
            self._arguments(stage, rate),
            data_collator=Collate(self._channels_last),
            train_dataset=self._train,
            eval_dataset=self._val,
            compute_metrics=accuracy,
            optimizers=(torch.optim.SGD(trained, lr=rate, momentum=work.momentum), None),
            callbacks=[Watch(stage, self._course)],
        )
        trainer.train()
        self._course.add_training(stage, 0.0, len(self._train) * work.epochs(stage))  # it drops none
        self._course.add_validated(stage, len(self._val) * work.epochs(stage))
        history = trainer.state.log_history
        self._record.accuracy += [row["eval_accuracy"] for row in history if "eval_accuracy" in row]

    def _arguments(self, stage: str, rate: float) -> TrainingArguments:
        work, workers = self._task.work, int(self._task.options.get("workers", 0))
        return TrainingArguments(
            output_dir=str(Path(self._task.folder) / stage),
            per_device_train_batch_size=work.batch_size,
            per_device_eval_batch_size=work.batch_size,
            num_train_epochs=work.epochs(stage),
            learning_rate=rate,
            lr_scheduler_type="constant",
            eval_strategy="epoch",
            save_strategy="epoch",
            bf16=bool(self._task.options.get("bf16")),
            use_cpu=True,
            seed=work.seed,
            remove_unused_columns=False,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            report_to="none",
        )


if __name__ == "__main__":
    run(Training)
