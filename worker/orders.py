"""What passes between the supervisor and an attempt: an order in, messages out. No torch, no database."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.events import Event


@dataclass(frozen=True)
class ResumePoint:
    """What an attempt may go on from: the id of a checkpoint, or of a state within an epoch, and its files.

    `place` says where in the job it is. `best` is the best checkpoint as of then. All these files lie in the
    folders of the attempts before.
    """

    id: str
    place: str
    state: Path
    state_sha256: str | None
    weights: Path | None = None
    weights_sha256: str | None = None
    best: Path | None = None
    best_sha256: str | None = None


@dataclass(frozen=True)
class Order:
    """All that an attempt needs. `folder` is its own.

    `points` are what it may go on from, newest first; it takes the first one whose files are sound.
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
    points: tuple[ResumePoint, ...] = ()
    job_file: Path | None = None
    job_file_sha256: str | None = None
    cache_dir: Path | None = None
    cache_bytes: int = 0
    checks_dir: Path | None = None
    feature_memory_bytes: int = 2 * 2**30


@dataclass(frozen=True)
class FellBack:
    """The attempt cannot go on from the newest of its points, whose files are damaged.

    It goes on from `point`, or from the beginning where that is None. `damaged` are the ids of those before
    it, and `what` names them with a file of each.
    """

    point: str | None
    damaged: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Failed:
    """The attempt ended by an error that will not go away by itself. `details` are for the worker's log."""

    code: str
    message: str
    param: str | None = None
    details: str | None = None


Message = Event | FellBack | Failed
