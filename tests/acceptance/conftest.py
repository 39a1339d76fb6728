"""Whole jobs: the real server and the real worker over HTTP, on images that the tests make."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import safe_open

from client.api import ThawClient

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def thaw(make_house, draw_shapes):
    """A house with a server and a worker that most tests share."""
    house = make_house()
    draw_shapes(house.data / "shapes")
    draw_shapes(house.data / "renamed", classes=("ball", "box", "wedge"), train=4, val=2)
    house.serve()
    house.worker = house.work()
    yield house
    assert house.worker.poll() is None, f"a job has ended the worker:\n{house.log('worker')[-3000:]}"


@pytest.fixture(scope="session")
def client(thaw) -> Iterator[ThawClient]:
    with ThawClient(thaw.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def rough(make_house, draw_shapes):
    """A house with a server and short leases, whose tests start and kill their own workers."""
    house = make_house(lease_seconds=3, grace_seconds=10)
    draw_shapes(house.data / "shapes", train=8, val=4)
    house.serve()
    with ThawClient(house.url) as opened:
        house.client = opened
        yield house


@pytest.fixture
def worker(rough) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts workers of the rough house that end with the test."""
    started = []

    def start():
        started.append(rough.work())
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., dict[str, Any]]:
    """A short two-stage spec; keywords replace its fields."""

    def make(**changes):
        spec = {
            "dataset": {"path": "shapes"},
            "backbone": {"name": "tiny_net", "weights": None},
            "stages": [
                {
                    "name": "head",
                    "epochs": 3,
                    "freeze": {"policy": "backbone"},
                    "lr": {"schedule": {"name": "constant", "lr": 0.1}},
                },
                {
                    "name": "all",
                    "epochs": 4,
                    "lr": {
                        "schedule": {"name": "list", "values": [[0.1, 2], [0.05, 2]]},
                        "factors": [{"modules": ["head"], "factor": 2.0}],
                        "default_factor": 0.5,
                    },
                    "augmentation": "light",
                },
            ],
            "batch_size": 8,
            "precision": "fp32",
        }
        return spec | changes

    return make


@pytest.fixture(scope="session")
def ended(until) -> Callable[..., Any]:
    """Waits for a job's end and gives the job."""

    def wait(client, job_id, seconds=120):
        return until(lambda: (job := client.job(job_id)).ended and job, seconds, "the job has ended")

    return wait


@pytest.fixture(scope="session")
def read_weights() -> Callable[[Path], SimpleNamespace]:
    """Reads a checkpoint: its metadata, and the bytes of each of its tensors."""

    def read(path):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
            return SimpleNamespace(
                metadata=file.metadata(),
                shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
                bytes={name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
            )

    return read


@pytest.fixture(scope="session")
def command() -> Path:
    """The command `thaw` of this Python."""
    return Path(sys.executable).with_name("thaw")


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT
