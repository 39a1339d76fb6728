"""What a process of the benchmarks measures, on its way to the runner, and into the file of results."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from benchmarks.work import Work

MARK = "BENCH "
BEGUN = "BENCHMARK_BEGUN"  # the environment variable with the time at which a process was started


@dataclass
class Record:
    """The figures of one row in one round.

    `seconds` are of the parts `imports`, `preparing`, `head`, `full` and of the `total`; `training` is what
    of a stage's seconds went into training batches, their loading included; `trained` counts images. `rates`
    are images per second. `memory` are bytes: `tree`, of all processes at once, and `largest`, of the largest
    one. `skipped` says why there are no figures.
    """

    row: str
    round: int = 0
    seed: int = 0
    session: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)
    validated: dict[str, int] = field(default_factory=dict)
    accuracy: list[float] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    skipped: str | None = None

    def tell(self) -> None:
        """Prints it for the runner."""
        print(f"{MARK}{json.dumps(asdict(self))}", flush=True)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """One that was told, or stored."""
        return cls(**fields)

    def equal_work(self, stage: str, work: Work) -> float | None:
        """A stage's seconds, as if it had trained on as many images as it should have.

        A loop that drops the last short batch of each epoch does less; its training is scaled.
        """
        if stage not in self.seconds:
            return None
        seconds, training, trained = self.seconds[stage], self.training.get(stage), self.trained.get(stage)
        if not (training and trained):
            return seconds
        return seconds + training * (work.images(stage) / trained - 1)

    def equal_total(self, work: Work) -> float | None:
        """The whole process's seconds on equal work."""
        total = self.seconds.get("total")
        if total is None:
            return None
        stages = [name for name in ("head", "full") if name in self.seconds]
        return total + sum((self.equal_work(name, work) or 0.0) - self.seconds[name] for name in stages)


class Course:
    """Where a process's time goes, from the moment that it was started."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._last = float(os.environ.get(BEGUN, time.monotonic()))

    def lap(self, part: str) -> None:
        """Adds the time since the last lap to a part of the record's `seconds`."""
        now = time.monotonic()
        self._record.seconds[part] = self._record.seconds.get(part, 0.0) + now - self._last
        self._last = now

    @contextmanager
    def training(self, stage: str) -> Iterator[None]:
        """Counts what runs within as the training of a stage."""
        begun = time.monotonic()
        yield
        self.add_training(stage, time.monotonic() - begun)

    def add_training(self, stage: str, seconds: float, images: int = 0) -> None:
        """Counts seconds and images that a stage has trained."""
        self._record.training[stage] = self._record.training.get(stage, 0.0) + seconds
        self._record.trained[stage] = self._record.trained.get(stage, 0) + images

    def add_validated(self, stage: str, images: int) -> None:
        """Counts images that were evaluated in a stage."""
        self._record.validated[stage] = self._record.validated.get(stage, 0) + images


def told(output: str) -> list[Record]:
    """The records that a process has printed."""
    lines = (line for line in output.splitlines() if line.startswith(MARK))
    return [Record.of(json.loads(line.removeprefix(MARK))) for line in lines]
