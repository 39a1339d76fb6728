"""The real server on a free port with a real SQLite file; what a worker would write, the tests write."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from app.store.attempts import claim, finish
from app.store.database import Database
from app.store.jobs import create_job
from app.store.records import Claim, NewCheckpoint
from app.store.reports import record_epoch
from app.store.states import Status
from tests.app.guarded import anybody, finished, guarded, holder, owner

__all__ = ["anybody", "finished", "guarded", "holder", "owner"]  # for tests of keys

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def house(make_house, draw_shapes):
    house = make_house()
    draw_shapes(house.data / "shapes", train=3, val=2)
    (house.data / "one_class" / "only").mkdir(parents=True)
    outside = draw_shapes(house.root / "outside", train=2, val=2)
    (house.data / "leaving").symlink_to(outside)
    (house.weights / "text.safetensors").write_text("no tensors")
    (house.root / "secret.safetensors").write_text("no tensors")
    house.server = house.serve()
    return house


@pytest.fixture(scope="session")
def store(house) -> Iterator[Database]:
    db = Database(house.database_url)
    yield db
    db.dispose()


@pytest.fixture(scope="session")
def api(house) -> Iterator[httpx.Client]:
    """A client that holds every answer against what is promised of all answers."""

    def check(response: httpx.Response) -> None:
        assert response.headers["X-Request-ID"]
        if response.status_code < 400:
            return
        response.read()
        if response.request.method != "HEAD":
            error = response.json()["error"]
            assert list(response.json()) == ["error"]
            assert set(error) == {"message", "type", "param", "code", "details"}
            assert error["message"]
            assert error["type"] == (
                "server_error" if response.status_code >= 500 else "invalid_request_error"
            )
            for secret in (str(house.root), os.fspath(Path(__file__).parents[2]), "Traceback"):
                assert secret not in response.text

    hooks: dict[str, list[Callable[..., Any]]] = {"response": [check]}
    with httpx.Client(base_url=house.url, event_hooks=hooks, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    """A sound spec; keywords replace its fields."""

    def make(**changes):
        sound = {
            "dataset": {"path": "shapes"},
            "backbone": {"name": "tiny_net", "weights": None},
            "recipe": {"name": "two_stage", "head_epochs": 3, "full_epochs": 2},
        }
        return sound | changes

    return make


@pytest.fixture
def post(api, spec) -> Callable[..., dict[str, Any]]:
    """Submits a job."""

    def submit(**changes):
        response = api.post("/v1/jobs", json=spec(**changes))
        assert response.status_code == 201, response.text
        return response.json()

    return submit


@pytest.fixture
def make_experiment(spec) -> Callable[..., dict[str, Any]]:
    """A sound experiment's body: two recipes, two seeds; keywords replace its fields."""

    def make(**changes):
        base = spec()
        del base["recipe"]
        sound = {
            "spec": base,
            "variants": [
                {"name": "two_stage", "patch": {"recipe": {"name": "two_stage", "head_epochs": 2}}},
                {"name": "joint", "patch": {"recipe": {"name": "joint", "epochs": 2}}},
            ],
            "seeds": [0, 1],
        }
        return sound | changes

    return make


@pytest.fixture
def hold(post, store) -> Callable[..., Claim]:
    """Submits a job and takes it, as a worker does."""

    def take(**changes):
        job = post(priority=1000, **changes)  # before the jobs that other tests have left
        while held := claim(store, "a worker", 600):
            if held.job_id == job["id"]:  # else a retry or branch of such a job, with its priority
                return held
        raise AssertionError("the job is not there to be claimed")

    return take


@pytest.fixture
def write_epoch(house, store) -> Callable[..., Any]:
    """Writes an epoch with its checkpoint file, as a worker does."""

    def write(held, number, content=b"weights", value=0.5, best=True, **figures):
        path = house.artifacts / held.job_id / f"attempt-{held.attempt}" / f"epoch-{number:05d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        record = {
            "stage": "head",
            "stage_index": 0,
            "epoch": number,
            "global_epoch": number,
            "lr": {"default": 0.01},
            "train": {"loss": 0.5, "accuracy": 0.75},
            "val": {"loss": 0.25, "accuracy": value},
            "images_per_second": 10.0,
            "seconds": {"data": 0.1, "train": 0.2, "val": 0.3, "checkpoint": 0.4},
            "peak_memory_bytes": 2**20,
        } | figures
        new = NewCheckpoint(
            path.relative_to(house.artifacts).as_posix(),
            len(content),
            hashlib.sha256(content).hexdigest(),
            metric="val_accuracy",
            value=value,
        )
        named = {"checkpoint": new.id, "metric": "val_accuracy", "value": value} if best else None
        return record_epoch(store, held, 600, record, new, named)

    return write


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """An empty database of either kind in turn."""
    db = Database(url)
    yield db
    db.dispose()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    """Of a home of its own, with that database."""
    made = Settings(
        home_dir=tmp_path / "home",
        data_dir=tmp_path / "data",
        weights_dir=tmp_path / "weights",
        database_url=url,
    )
    made.artifacts_dir.mkdir(parents=True)
    return made


@pytest.fixture
def leave_job(db: Database, settings: Settings) -> Callable[..., str]:
    """Makes a job with the files of an epoch for each value, and ends it, unless `status` is None."""

    def leave(
        values: tuple[float | None, ...] = (0.5,),
        best: int | None = None,
        status: Status | None = Status.SUCCEEDED,
        content: bytes = b"weights",
    ) -> str:
        job, _ = create_job(db, spec={}, resolved_spec={}, priority=1000)
        held = claim(db, "w1", 600)
        assert held is not None
        folder = settings.artifacts_dir / job.id / f"attempt-{held.attempt}"
        folder.mkdir(parents=True)
        for number, value in enumerate(values, 1):
            weights = folder / f"epoch-{number:05d}.safetensors"
            state = folder / f"epoch-{number:05d}.state.pt"
            weights.write_bytes(content)
            state.write_bytes(b"state")
            new = NewCheckpoint(
                weights.relative_to(settings.artifacts_dir).as_posix(),
                len(content),
                hashlib.sha256(content).hexdigest(),
                state.relative_to(settings.artifacts_dir).as_posix(),
                len(b"state"),
                hashlib.sha256(b"state").hexdigest(),
                metric="val_accuracy",
                value=value,
            )
            named = {"checkpoint": new.id, "metric": "val_accuracy", "value": value}
            place = {"stage": "all", "stage_index": 0, "epoch": number, "global_epoch": number}
            record_epoch(db, held, 600, place, new, named if number == best else None)
        if status is not None:
            finish(db, held, status, "done")
        return job.id

    return leave


@pytest.fixture
def traffic(url: str, settings: Settings, tmp_path: Path) -> Callable[..., Any]:
    """`with traffic(writers=2, readers=1) as said`: processes at work; then `said` has what they did.

    `size` is the length of what each heartbeat writes.
    """

    @contextmanager
    def run(writers: int = 0, readers: int = 0, size: int = 500) -> Iterator[list[dict[str, Any]]]:
        stop = tmp_path / "stop"
        stop.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.traffic"]
        started = [
            subprocess.Popen(
                [*command, kind, url, str(settings.artifacts_dir), str(stop), str(size)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for kind in ["write"] * writers + ["read"] * readers
        ]
        said: list[dict[str, Any]] = []
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in started:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            yield said
        finally:
            stop.touch()
            for process in started:
                printed, _ = process.communicate(timeout=120)
                said.append(json.loads(printed))

    return run
