"""A supervisor with a fake engine, against a real SQLite file and real files."""

import errno
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.settings import Settings
from app.store import jobs
from app.store.database import Database
from app.store.doorbells import Doorbell, ring
from app.store.migrate import migrate
from finetune.events import (
    CheckpointFiles,
    EpochEnded,
    EpochRecord,
    Progress,
    ReportFiles,
    ReportReady,
    RunEnded,
    StateSaved,
)
from finetune.recipes import resolve
from finetune.spec.job import JobSpec
from worker.engine import AttemptGone
from worker.orders import Message, Order
from worker.supervisor import Supervisor

SPEC = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_net", "weights": None},
    "recipe": {"name": "joint", "epochs": 5},
}


@dataclass
class FakeAttempt:
    """An attempt that says what the test tells it to say."""

    order: Order
    acknowledged: int = 0
    asked: int = 0  # to save and end
    obeys: bool = True
    stopped: int = 0
    waited: bool = False
    busy: float | None = None
    timeouts: list[float] = field(default_factory=list)
    _said: "queue.Queue[Message | AttemptGone]" = field(default_factory=queue.Queue)

    def receive(self, timeout: float, bell: Doorbell) -> Message | None:
        """See `worker.engine.Attempt`. A queue cannot be waited for together with a bell: it looks often."""
        self.timeouts.append(timeout)
        try:
            said = self._said.get(timeout=min(timeout, 0.02))
        except queue.Empty:
            return None
        if isinstance(said, AttemptGone):
            raise said
        return said

    def acknowledge(self) -> None:
        """See `worker.engine.Attempt`."""
        self.acknowledged += 1

    def wait(self, seconds: float) -> None:
        """See `worker.engine.Attempt`."""
        self.waited = True

    def busy_seconds(self) -> float | None:
        """See `worker.engine.Attempt`."""
        return self.busy

    def save(self) -> None:
        """See `worker.engine.Attempt`."""
        self.asked += 1
        if self.obeys:
            self.say(AttemptGone("its process ended with exit code 0"))

    def stop(self) -> None:
        """See `worker.engine.Attempt`."""
        self.stopped += 1

    def say(self, *messages: Message | AttemptGone) -> None:
        """Lets the supervisor hear messages."""
        for message in messages:
            self._said.put(message)

    def progress(self, step: int = 1) -> None:
        """Tells of a step."""
        self.say(Progress("all", 0, 1, 1, 5, step, 10, 12.5, 60.0))

    def epoch(self, number: int, accuracy: float | None = 0.5, best: bool = True) -> None:
        """Writes the files of an epoch and tells of it."""
        self.order.folder.mkdir(parents=True, exist_ok=True)
        weights = self.order.folder / f"epoch-{number:05d}.safetensors"
        state = self.order.folder / f"epoch-{number:05d}.state.pt"
        weights.write_bytes(b"weights %d" % number)
        state.write_bytes(b"state %d" % number)
        figures: dict[str, float | None] = {"loss": 0.5, "accuracy": accuracy}
        record = EpochRecord(
            "all", 0, number, number, {"default": 0.1}, figures, figures, 9.0, {"train": 1.0}, 7
        )
        files = CheckpointFiles(
            weights, _sha256(weights), 9, state, _sha256(state), 7, "val_accuracy", accuracy, best
        )
        self.say(EpochEnded(record, files))

    def state(self, epoch: int, step: int) -> Path:
        """Writes the file of a state within an epoch and tells of it."""
        self.order.folder.mkdir(parents=True, exist_ok=True)
        path = self.order.folder / f"epoch-{epoch:05d}-step-{step:07d}.state.pt"
        path.write_bytes(b"state %d %d" % (epoch, step))
        self.say(StateSaved("all", 0, epoch, epoch, step, path, _sha256(path), path.stat().st_size))
        return path

    def report(self, weights: Path) -> ReportReady:
        """Writes a report on a checkpoint and tells of it."""
        self.order.folder.mkdir(parents=True, exist_ok=True)
        report, predictions = self.order.folder / "report.json", self.order.folder / "predictions.parquet"
        report.write_bytes(b"report of attempt %d" % self.order.attempt)
        predictions.write_bytes(b"predictions")
        files = ReportFiles(report, _sha256(report), 19, predictions, _sha256(predictions), 11)
        reproduced = {"metric": "val_accuracy", "stored": 0.75, "again": 0.75, "difference": 0.0}
        figures: dict[str, float | None] = {"accuracy": 0.75, "top_5_accuracy": None}
        event = ReportReady(weights, files, figures, reproduced, 1.5)
        self.say(event)
        return event

    def succeed(self) -> None:
        """Tells that all is done."""
        self.say(RunEnded({"epochs": 5}))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FakeEngine:
    """The one fake of these tests: attempts without processes."""

    def __init__(self) -> None:
        self.attempts: list[FakeAttempt] = []
        self.full = 0  # so many attempts cannot be started

    def start(self, order: Order) -> FakeAttempt:
        """See `worker.engine.Engine`."""
        if self.full:
            self.full -= 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        attempt = FakeAttempt(order)
        self.attempts.append(attempt)
        return attempt


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'thaw.db'}"
    migrate(url)
    return url


@pytest.fixture
def db(url: str, tmp_path: Path) -> Iterator[Database]:
    """The server's: what it writes wakes workers."""
    db = Database(url, on_news=partial(ring, tmp_path / "home" / "doorbells"))
    yield db
    db.dispose()


@pytest.fixture
def post(db: Database) -> Callable[..., str]:
    """Stores a job; keywords replace fields of its spec."""

    def submit(**changes: Any) -> str:
        spec = JobSpec.model_validate(SPEC | changes)
        resolved = resolve(spec, list).model_dump(mode="json")
        job, _ = jobs.create_job(db, spec=SPEC, resolved_spec=resolved, max_attempts=spec.max_attempts)
        return job.id

    return submit


@pytest.fixture
def look(db: Database) -> Callable[[str], Any]:
    def job(job_id: str) -> Any:
        return jobs.get_job(db, job_id)

    return job


@pytest.fixture
def hire(url: str, tmp_path: Path, until: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts a supervisor with a fake engine in a thread; keywords are settings."""
    hired = []

    def start(**settings: object) -> SimpleNamespace:
        values: dict[str, Any] = {"lease_seconds": 30, "poll_seconds": 0.02, "grace_seconds": 1, **settings}
        ours = Database(url, on_news=partial(ring, tmp_path / "home" / "doorbells"))
        engine = FakeEngine()
        supervisor = Supervisor(
            Settings(home_dir=tmp_path / "home", database_url=url, **values), ours, engine
        )
        thread = threading.Thread(target=supervisor.work)

        def leave() -> None:
            supervisor.stop()
            thread.join(20)
            assert not thread.is_alive(), "the supervisor does not stop"

        def attempt(number: int = 1) -> FakeAttempt:
            until(lambda: len(engine.attempts) >= number, 10, f"attempt {number} starts")
            return engine.attempts[number - 1]

        worker = SimpleNamespace(
            supervisor=supervisor, engine=engine, attempt=attempt, leave=leave, db=ours, thread=thread
        )
        hired.append(worker)
        thread.start()
        return worker

    yield start
    for worker in hired:
        worker.leave()
        worker.db.dispose()


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return tmp_path / "home" / "artifacts"


@pytest.fixture
def training(post, hire, until):
    """Hires a worker whose attempt is in the middle of its steps; gives job, worker and attempt."""

    def start(obeys=True, spec=None, **settings):
        job = post(**(spec or {}))
        worker = hire(**settings)
        attempt = worker.attempt()
        attempt.obeys = obeys
        attempt.progress(1)
        until(lambda: attempt.timeouts and attempt._said.empty(), 10, "its step is heard of")
        return job, worker, attempt

    return start
