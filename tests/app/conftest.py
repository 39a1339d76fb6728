"""The real server on a free port with a real SQLite file; what a worker would write, the tests write."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.store.attempts import claim
from app.store.database import Database
from app.store.records import Claim, NewCheckpoint
from app.store.reports import record_epoch
from tests.app.guarded import anybody, finished, guarded, holder, owner

__all__ = ["anybody", "finished", "guarded", "holder", "owner"]  # for tests of keys


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
        held = claim(store, "a worker", 600)
        assert held is not None
        assert held.job_id == job["id"]
        return held

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
