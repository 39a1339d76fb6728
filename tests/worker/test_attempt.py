"""The attempt's own process, started by the real engine of a real worker."""

import os
import signal

import httpx
import pytest

LONG = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_slow", "weights": None},
    "recipe": {"name": "joint", "epochs": 1000},
    "batch_size": 8,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(data_workers=1, lease_seconds=60)
    draw_shapes(house.data / "shapes", train=8, val=2)
    house.serve()
    return house


@pytest.fixture
def training(house, until):
    """A worker in the middle of a long job: the worker and the job's address."""
    worker = house.work()
    job = httpx.post(f"{house.url}/v1/jobs", json=LONG, trust_env=False, timeout=60).json()["id"]
    address = f"{house.url}/v1/jobs/{job}"
    until(lambda: httpx.get(f"{address}/metrics", trust_env=False).json()["data"], 60, "an epoch has ended")
    yield worker, address
    httpx.post(f"{address}/cancel", trust_env=False)


def test_torch_is_in_the_attempt_and_not_in_the_supervisor(training, proc):
    worker, _ = training
    (attempt,) = proc.attempts(worker.pid)
    assert proc.has_torch(attempt)
    assert not proc.has_torch(worker.pid)
    worker.terminate()
    assert worker.wait(30) == 0


def test_attempt_whose_worker_was_killed_ends_itself_with_all_its_processes(training, proc, until):
    worker, _ = training
    family = proc.descendants(worker.pid)
    assert len(family) >= 3  # the fork server, the attempt, its loader
    worker.kill()
    worker.wait()
    until(lambda: not any(proc.alive(pid) for pid in family), 15, "no process is left")


def test_attempt_that_is_killed_takes_its_loader_with_it(training, proc, until):
    worker, address = training
    (attempt,) = proc.attempts(worker.pid)
    loaders = proc.descendants(attempt)
    assert loaders
    httpx.post(f"{address}/cancel", trust_env=False)
    os.kill(attempt, signal.SIGKILL)
    until(lambda: not any(proc.alive(pid) for pid in loaders), 15, "no loader is left")
    worker.terminate()
    assert worker.wait(30) == 0
