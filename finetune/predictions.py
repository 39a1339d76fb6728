"""What a trained network is asked about images, and what it answers: plain values that processes exchange."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["classes", "labels", "embedding"]


@dataclass(frozen=True)
class Sent:
    """An image as it was sent: a file's bytes, and what its sender calls it."""

    content: bytes
    name: str | None = None


@dataclass(frozen=True)
class Question:
    """Images for the network of a checkpoint. `top` is how many classes an answer lists, where it has any."""

    checkpoint: Path
    sha256: str
    images: tuple[Sent, ...]
    top: int = 5


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Args:
        classes: with their probabilities, the most probable first; none where it gives an embedding.
        labels: where an image has any number of them, those that reach their thresholds, in the same order.
        embedding: where it gives one.
    """

    classes: tuple[tuple[str, float], ...] | None = None
    labels: tuple[str, ...] | None = None
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Predictions:
    """The answers in the order of the images, and the seconds that they took."""

    kind: Kind
    backbone: str
    predictions: tuple[Prediction, ...]
    decode_seconds: float
    model_seconds: float
