"""Objectives as data. What computes them is in `finetune.objectives`."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from finetune.spec.base import Part, chosen_by


class CrossEntropy(Part):
    """Cross-entropy of the logits; `balanced` weighs a class by images / (classes × its images)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"


class Triplet(Part):
    """Triplet loss over batches of P classes with K images each (Schroff et al. 2015)."""

    name: Literal["triplet"]
    margin: Annotated[float, Field(gt=0, le=100)] = 0.2
    mining: Literal["all", "semihard", "hard"] = "semihard"
    classes_per_batch: Annotated[int, Field(ge=2, le=10_000)] = 8
    images_per_class: Annotated[int, Field(ge=2, le=10_000)] = 4


Objective = Annotated[
    Annotated[CrossEntropy, Tag("<cross_entropy>")] | Annotated[Triplet, Tag("<triplet>")],
    chosen_by("name", "cross_entropy", "triplet"),
]
