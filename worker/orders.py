"""What passes between the supervisor and an attempt: an order in, messages out. No torch, no database."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.events import Event


@dataclass(frozen=True)
class Order:
    """All that an attempt needs. `folder` is its own; `resume` is the checkpoint that it goes on from.

    `best` is the best checkpoint of the attempts before, whose files lie in their folders.
    """

    job: str
    attempt: int
    spec: dict[str, Any]
    folder: Path
    data_dir: Path
    weights_dir: Path
    backbones: tuple[str, ...]
    device: str
    data_workers: int
    resume_weights: Path | None = None
    resume_state: Path | None = None
    best_weights: Path | None = None
    best_sha256: str | None = None
    job_file: Path | None = None
    cache_dir: Path | None = None
    cache_bytes: int = 0
    checks_dir: Path | None = None
    feature_memory_bytes: int = 2 * 2**30


@dataclass(frozen=True)
class Failed:
    """The attempt ended by an error that will not go away by itself. `details` are for the worker's log."""

    code: str
    message: str
    param: str | None = None
    details: str | None = None


Message = Event | Failed
