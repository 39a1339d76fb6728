"""Weights that a library knows by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from finetune.data.preprocessing import Preprocessing


@dataclass(frozen=True)
class Named:
    """A library's weights, not yet read; `read` may download them.

    `read` takes the network that they are for, which it looks at and does not change: timm resamples
    position embeddings to its image size.
    """

    label: str
    read: Callable[[nn.Module], dict[str, Tensor]]
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = None
