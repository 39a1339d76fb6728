"""The work that all loops do alike, and the task of a process that does it. Needs nothing but Python."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

STAGES = ("head", "full")
RESIZED = 256 / 224  # the short side that evaluation takes the centre from, as a multiple of the centre
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Work:
    """Two stages of training: the head with everything else frozen, then everything.

    `data` has `train/CLASS/*.jpg` and `val/CLASS/*.jpg`. `network` is torchvision's name, or
    `package.module:factory` of a registered one; `weights` is a safetensors file of it, and without one the
    network starts from random weights. Training takes crops of `crop_scale` of an image's area at random and
    flips half of them. After each epoch all validation images are evaluated. SGD with `momentum`; the full
    stage's rate stays, or falls to zero in a line, step by step.
    """

    data: str
    trained: int  # images an epoch
    validated: int
    network: str = "resnet18"
    weights: str | None = None
    image_size: int = 224
    batch_size: int = 32
    head_epochs: int = 3
    full_epochs: int = 2
    head_rate: float = 0.01
    full_rate: float = 0.001
    full_rate_falls: bool = False
    momentum: float = 0.9
    crop_scale: tuple[float, float] = (0.08, 1.0)
    seed: int = 0

    @property
    def resized(self) -> int:
        """The short side in pixels that evaluation takes the centre from."""
        return round(self.image_size * RESIZED)

    def epochs(self, stage: str) -> int:
        """How many epochs a stage has."""
        return self.head_epochs if stage == "head" else self.full_epochs

    def images(self, stage: str) -> int:
        """How many images a stage trains on, counted in every epoch."""
        return self.epochs(stage) * self.trained


@dataclass(frozen=True)
class Task:
    """What a process is to do: a row of the table, with options of its kind, files below `folder`."""

    row: str
    work: Work
    folder: str
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Writes it for the process."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls) -> Self:
        """Reads the one that this process was started with, as its only argument."""
        fields = json.loads(Path(sys.argv[1]).read_text())
        work = fields.pop("work")
        return cls(work=Work(**work | {"crop_scale": tuple(work["crop_scale"])}), **fields)
