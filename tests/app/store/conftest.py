from collections.abc import Callable
from typing import Any

import pytest

from app.store.attempts import claim
from app.store.database import Database
from app.store.experiments import create_experiment
from app.store.ids import new_id
from app.store.jobs import create_job, get_job
from app.store.records import Claim, Experiment, Job, NewTrial


@pytest.fixture
def post(db: Database) -> Callable[..., Job]:
    def post(**values) -> Job:
        job, _ = create_job(db, **{"spec": {}, "resolved_spec": {}} | values)
        return job

    return post


@pytest.fixture
def take(db: Database) -> Callable[..., Claim]:
    def take(worker: str = "w1", lease_seconds: float = 60.0) -> Claim:
        claimed = claim(db, worker, lease_seconds)
        assert claimed is not None
        return claimed

    return take


@pytest.fixture
def reread(db: Database) -> Callable[[Job], Job]:
    def reread(job: Job) -> Job:
        found = get_job(db, job.id)
        assert found is not None
        return found

    return reread


@pytest.fixture
def experiment(db: Database) -> Callable[..., Experiment]:
    """Makes an experiment with a job for each variant and seed, seed by seed."""

    def make(variants=("a", "b"), seeds=(0, 1), most_waiting=None, **values) -> Experiment:
        columns: dict[str, Any] = {
            "id": new_id("exp"),
            "name": None,
            "metadata": {},
            "spec": {},
            "variants": [{"name": name, "patch": {}} for name in variants],
            "seeds": list(seeds),
            "metric": "val_accuracy",
            "idempotency_key": None,
            "request_hash": None,
        }
        trials = [
            NewTrial(name, seed, f"x/{name}/{seed}", {"team": "zoo"}, 0, 3, {"seed": seed}, {"seed": seed})
            for seed in seeds
            for name in variants
        ]
        made, _ = create_experiment(db, columns | values, trials, most_waiting)
        return made

    return make
