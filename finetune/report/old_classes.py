"""What training made of the classes that the head knew before: their accuracy as the run began, and now.

The network as the run began is built again from the same weights: building it is deterministic. It knew the
old classes alone (the new ones' rows were drawn at random), so it chooses among these. The trained network
is asked twice: among the old classes, which tells what it has forgotten, and among all, as it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from finetune.network import build
from finetune.report.class_figures import accuracy
from finetune.report.predictions import Column, names_of
from finetune.run import Run


@dataclass(frozen=True)
class OldAnswers:
    """Predictions for the validation images of the old classes, each choosing among these.

    classes: indices of the old classes, int64 (K,).
    images: indices of their images, int64 (M,).
    before, among_old: what the network said as the run began, and what the trained one says, int64 (M,).
    """

    classes: Tensor
    images: Tensor
    before: Tensor
    among_old: Tensor

    @classmethod
    def of(cls, kept: Sequence[int], labels: Tensor, before: Tensor, after: Tensor) -> "OldAnswers":
        """From logits.

        Args:
            kept: indices of the old classes.
            labels: of all validation images, int64 (N,).
            before: (M, classes), of the old classes' images alone.
            after: (N, classes).
        """
        classes, images = torch.tensor(kept), images_of(kept, labels)
        choose = [classes[logits[:, classes].argmax(1)] for logits in (before, after[images])]
        return cls(classes, images, *choose)

    def columns(self, classes: Sequence[str], count: int) -> dict[str, Column]:
        """What is stored of each of `count` images; null for images of new classes."""
        found: dict[str, Column] = {}
        for name, values in (("prediction_before", self.before), ("prediction_among_old", self.among_old)):
            column: list[str | None] = [None] * count
            for image, said in zip(self.images.tolist(), names_of(classes, values), strict=True):
                column[image] = said
            found[name] = column
        return found

    def report(self, classes: Sequence[str], labels: Tensor, predictions: Tensor) -> dict[str, Any]:
        """The fields of `finetune.report.fields.OldClasses`."""
        own, after = labels[self.images], predictions[self.images]
        answers = {"before": self.before, "after_among_old": self.among_old, "after": after}
        rows = [_row(classes[c], own == c, own, answers) for c in self.classes.tolist()]
        return {
            "images": len(own),
            **{name: accuracy(own, said) for name, said in answers.items()},
            "per_class": sorted(rows, key=lambda row: 1.0 if row["change"] is None else row["change"]),
        }


def _row(name: str, of_class: Tensor, labels: Tensor, answers: dict[str, Tensor]) -> dict[str, Any]:
    support = int(of_class.sum())
    found = {
        key: accuracy(labels[of_class], said[of_class]) if support else None for key, said in answers.items()
    }
    before, after = found["before"], found["after"]
    change = None if before is None or after is None else after - before
    return {"name": name, "support": support, **found, "change": change}


def images_of(kept: Sequence[int], labels: Tensor) -> Tensor:
    """Indices of the images of these classes, int64 (M,)."""
    return torch.isin(labels, torch.tensor(kept, dtype=torch.int64)).nonzero()[:, 0]


def logits_before(run: Run, images: Sequence[int]) -> Tensor:
    """What the network as the run began says of validation images: float32 (M, classes), on the CPU.

    Raises:
        FinetuneError: the weights that it began with cannot be had any more.
    """
    network = build(run.blueprint, run.spec.seed, run.spec.head.dropout)
    network = run.compute.laid(network).eval()
    with torch.inference_mode():
        batches = run.val.place(run.val.loader.of(images))
        return torch.cat([network(inputs).cpu() for inputs, _ in batches])
