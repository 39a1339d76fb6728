"""A real server that demands keys, and clients with keys of every scope for owners of a test's own."""

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from app.keys import new_key, sha256_of
from app.store import keys
from app.store.attempts import claim, finish
from app.store.database import Database
from app.store.job_reports import record_report
from app.store.records import ApiKey, NewCheckpoint, NewReport
from app.store.reports import record_epoch
from app.store.scopes import NOBODY, Scope
from app.store.states import Status
from finetune.report.predictions import lists, table_of

OWNER_JOBS, OWNER_BYTES = 6, 100_000
SPEC = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_net", "weights": None},
    "recipe": {"name": "joint", "epochs": 2},
}
_numbers = itertools.count()


@dataclass
class Holder:
    """Somebody with a key."""

    key: str
    row: ApiKey
    http: httpx.Client

    def submit(self, **changes: Any) -> str:
        """Submits a job; gives its id."""
        response = self.http.post("/v1/jobs", json=SPEC | changes)
        assert response.status_code == 201, response.text
        found: str = response.json()["id"]
        return found

    def compare(self, *seeds: int) -> str:
        """Starts an experiment of two variants; gives its id."""
        response = self.http.post("/v1/experiments", json=experiment(*seeds))
        assert response.status_code == 201, response.text
        found: str = response.json()["id"]
        return found


def experiment(*seeds: int, **changes: Any) -> dict[str, Any]:
    """An experiment's body."""
    base = {name: part for name, part in SPEC.items() if name != "recipe"}
    patches = [{"recipe": {"name": "joint", "epochs": epochs}} for epochs in (2, 3)]
    variants = [{"name": f"v{number}", "patch": patch} for number, patch in enumerate(patches)]
    return {"spec": base | changes, "variants": variants, "seeds": list(seeds)}


def predictions() -> bytes:
    """The file of a report's predictions, as small as it can be."""
    columns: dict[str, Any] = {"file": ["val/circle/0.png"], "label": ["circle"], "prediction": ["circle"]}
    columns |= {"probability": np.array([0.9], "f4"), "probabilities": lists(torch.tensor([[0.9, 0.1]]))}
    file = io.BytesIO()
    pq.write_table(table_of(columns, {"classes": ["circle", "square"]}), file)
    return file.getvalue()


def routes_of(app: Any, prefix: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """The path and the methods of everything that an application answers at, mounted or included."""
    for route in app.routes:
        inner = getattr(route, "original_router", route)  # FastAPI keeps what it includes as it is
        path = prefix + getattr(route, "path", "")
        if inner is route and path:
            yield path, frozenset(getattr(route, "methods", None) or ())
        if hasattr(inner, "routes"):
            yield from routes_of(inner, path)


@pytest.fixture(scope="session")
def guarded(make_house, draw_shapes):
    """A house whose server demands keys."""
    house = make_house(owner_jobs=OWNER_JOBS, owner_bytes=OWNER_BYTES)
    draw_shapes(house.data / "shapes", train=3, val=2)
    house.db = Database(house.database_url)
    # The first key is made before the server starts; those of the tests while it runs.
    keys.create_key(house.db, sha256=sha256_of(new_key()), scope=Scope.ADMIN, owner=NOBODY)
    house.server = house.serve()
    yield house
    house.db.dispose()


@pytest.fixture(scope="session")
def anybody(guarded) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=guarded.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def holder(guarded) -> Iterator[Callable[..., Holder]]:
    """Makes somebody with a key; `holder("submit", "zoo")`."""
    opened = []

    def make(scope: str, owner: str = NOBODY, lifetime_seconds: float | None = None) -> Holder:
        key = new_key()
        row = keys.create_key(
            guarded.db,
            sha256=sha256_of(key),
            scope=Scope(scope),
            owner=owner,
            lifetime_seconds=lifetime_seconds,
        )
        headers = {"Authorization": f"Bearer {key}"}
        http = httpx.Client(base_url=guarded.url, headers=headers, trust_env=False, timeout=60)
        opened.append(http)
        return Holder(key, row, http)

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def owner() -> Callable[[str], str]:
    """Names of owners that no other test has."""
    number = next(_numbers)
    return lambda name: f"{name}-{number}"


@pytest.fixture
def finished(guarded, holder) -> Callable[[Holder], str]:
    """Lets somebody's job succeed, with a checkpoint and a report whose files are there; gives its id."""

    def write(job: str, name: str, content: bytes) -> tuple[str, int, str]:
        path = guarded.artifacts / job / "attempt-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        relative = path.relative_to(guarded.artifacts).as_posix()
        return relative, len(content), hashlib.sha256(content).hexdigest()

    def finish_one(somebody: Holder) -> str:
        job = somebody.submit(priority=1000)  # before the jobs that other tests have left
        held = claim(guarded.db, "a worker", 600)
        assert held is not None
        assert held.job_id == job
        weights = NewCheckpoint(*write(job, "w.safetensors", b"weights"), metric="val_accuracy", value=0.5)
        best = {"checkpoint": weights.id, "metric": "val_accuracy", "value": 0.5}
        place = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
        figures = {"lr": {}, "train": {}, "val": {}, "images_per_second": 1.0, "seconds": {}}
        record = place | figures | {"peak_memory_bytes": 0}
        record_epoch(guarded.db, held, 600, record, weights, best)
        files = (*write(job, "report.json", b"{}"), *write(job, "predictions.parquet", predictions()))
        record_report(guarded.db, held, 600, NewReport(weights.path, *files), "made", {})
        finish(guarded.db, held, Status.SUCCEEDED, "all stages are done")
        return job

    return finish_one
