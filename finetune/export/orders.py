"""What is asked of the exporter, what it answers, and where its files lie. Loads no torch."""

import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Format(StrEnum):
    """What a checkpoint can be downloaded as."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"
    ONNX = "onnx"
    EXPORTED = "exported"

    @property
    def is_graph(self) -> bool:
        """Whether the file holds the network's operations, and not its weights alone."""
        return self in (Format.ONNX, Format.EXPORTED)


@dataclass(frozen=True)
class Wanted:
    """A format, and whether the preprocessing is in the graph (of those that have one)."""

    format: Format
    preprocessing: bool = False

    @property
    def key(self) -> str:
        """What a checkpoint's row calls it."""
        return f"{self.format}+preprocessing" if self.preprocessing else str(self.format)

    @property
    def file_name(self) -> str:
        """The same as a part of a file's name."""
        return self.key.replace("+", "-")


@dataclass(frozen=True)
class Order:
    """One export. Plain values, which another process can be given.

    `spec` is the job's resolved spec, `best` and `last` say what the checkpoint is among those of its job,
    `ended` whether there will be others.
    """

    weights: Path
    sha256: str
    target: Path
    wanted: Wanted
    checkpoint: str
    job: str
    name: str | None
    spec: dict[str, Any]
    best: bool
    last: bool
    ended: bool

    @property
    def work_folder(self) -> Path:
        """Where the export is made. It is there for as long as that takes."""
        return self.target.with_suffix(".making")


@dataclass(frozen=True)
class Exported:
    """A bundle that is complete on disk, and how far its model's answers are from the checkpoint's.

    `largest_difference` is over all probabilities of `images` validation images; of embeddings it is in parts
    of their largest number, where that is above 1. `same_data` says whether the dataset is still the one that
    the job was trained on.
    """

    size: int
    sha256: str
    largest_difference: float
    images: int
    same_data: bool


def target_of(artifacts: Path, job: str, checkpoint: str, wanted: Wanted) -> Path:
    """Where the bundle of a checkpoint lies."""
    return artifacts / job / "exports" / f"{checkpoint}-{wanted.file_name}.zip"


def remove_exports(artifacts: Path, job: str, checkpoint: str) -> None:
    """Deletes all that exporting a checkpoint has left on disk, whole or broken off."""
    for left in (artifacts / job / "exports").glob(f"{checkpoint}-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
