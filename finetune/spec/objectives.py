"""Objectives as data. What computes them is in `finetune.objectives`."""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from finetune.spec.base import Part, chosen_by

ClassWeights = Literal["none", "balanced"]


class CrossEntropy(Part):
    """Cross-entropy of the logits; `balanced` weighs a class by images / (classes × its images)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: ClassWeights = "none"


class Focal(Part):
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - p)^gamma, p the label's probability."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    class_weights: ClassWeights = "none"


class BinaryCrossEntropy(Part):
    """Binary cross-entropy of each class by itself, for images with any number of labels.

    `balanced` weighs a class's positive images by negatives / positives.
    """

    name: Literal["binary_cross_entropy"]
    class_weights: ClassWeights = "none"


class Triplet(Part):
    """Triplet loss over batches of P classes with K images each (Schroff et al. 2015).

    The network gives embeddings: a linear projection to `embedding_size` numbers, or with null the pooled
    features that the head would take. `normalize` puts them on the unit sphere.
    """

    name: Literal["triplet"]
    margin: Annotated[float, Field(gt=0, le=100)] = 0.2
    mining: Literal["all", "semihard", "hard"] = "semihard"
    classes_per_batch: Annotated[int, Field(ge=2, le=10_000)] = 8
    images_per_class: Annotated[int, Field(ge=2, le=10_000)] = 4
    embedding_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    normalize: bool = True


Objective = Annotated[
    Annotated[CrossEntropy, Tag("<cross_entropy>")]
    | Annotated[Focal, Tag("<focal>")]
    | Annotated[BinaryCrossEntropy, Tag("<binary_cross_entropy>")]
    | Annotated[Triplet, Tag("<triplet>")],
    chosen_by("name", "cross_entropy", "focal", "binary_cross_entropy", "triplet"),
]

Metric = Literal["val_loss", "val_accuracy", "val_map", "val_f1", "val_recall@1", "val_recall@5", "val_map@r"]

# The figures on the validation images by which a checkpoint is chosen (the first one unless the spec says
# another) or a stage is stopped.
METRICS: dict[type[Any], tuple[str, ...]] = {
    CrossEntropy: ("val_accuracy", "val_loss"),
    Focal: ("val_accuracy", "val_loss"),
    BinaryCrossEntropy: ("val_map", "val_f1", "val_loss"),
    Triplet: ("val_recall@1", "val_recall@5", "val_map@r", "val_loss"),
}


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better: losses."""
    return metric.endswith("loss")
