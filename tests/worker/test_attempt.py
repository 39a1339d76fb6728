"""The attempt's own process, started by the real engine of a real worker."""

import json
import os
import platform
import shutil
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

# Says of its process what it computes with, and how many page faults 64 MB cost that were there before.
WATCHER = """
import json
import os
import resource
from pathlib import Path

import torch

from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet


def faults(size=64 * 2**20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


class Watcher(TinyNet):
    def step(self, images):
        self.steps += self.training
        if self.training and self.steps == 2:
            faults(96 * 2**20)  # larger: an aligned block does not fit into a freed one of its own size
            seen = {"faults": min(faults() for _ in range(3)), "threads": torch.get_num_threads()}
            Path(__file__).with_suffix(".json").write_text(json.dumps(seen))


@register(name="watcher", head="head", preprocessing=SMALL)
def backbone(classes):
    return Watcher(classes)
"""


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(data_workers=1, lease_seconds=60)
    (house.root / "watcher.py").write_text(WATCHER)
    house.settings["THAW_BACKBONES"] += ",watcher:backbone"
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone keeps freed memory")
def test_an_attempt_keeps_freed_memory_and_computes_with_the_threads_that_the_operator_says(house, until):
    worker = house.work()
    short = {"backbone": {"name": "watcher", "weights": None}, "recipe": {"name": "joint", "epochs": 1}}
    httpx.post(f"{house.url}/v1/jobs", json={**LONG, **short}, trust_env=False, timeout=60).raise_for_status()
    told = house.root / "watcher.json"
    until(lambda: told.exists() and told.read_text(), 60, "the attempt has made two steps")
    worker.terminate()
    assert worker.wait(30) == 0
    seen = json.loads(told.read_text())
    assert seen["faults"] < 64 * 2**20 / os.sysconf("SC_PAGE_SIZE") / 100
    assert seen["threads"] == 1  # OMP_NUM_THREADS of the house


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: g++")
def test_an_attempt_compiles_and_leaves_no_process_behind(house, proc, until):
    worker = house.work()
    short = {"recipe": {"name": "joint", "epochs": 1}, "compile": "on"}
    body = {**LONG, "backbone": {"name": "tiny_net", "weights": None}, **short}
    job = httpx.post(f"{house.url}/v1/jobs", json=body, trust_env=False, timeout=60).json()["id"]
    address = f"{house.url}/v1/jobs/{job}"
    family = set[int]()

    def ended():
        family.update(proc.descendants(worker.pid))
        return httpx.get(address, trust_env=False).json()["status"] in ("succeeded", "failed")

    until(ended, 240, "the job has ended")
    found = httpx.get(address, trust_env=False).json()
    assert (found["status"], found["error"]) == ("succeeded", None)
    events = httpx.get(f"{address}/events", trust_env=False).json()["data"]
    (told,) = [event for event in events if event["type"] == "stage.compile"]
    assert told["message"].startswith("stage all: compile: on: as the spec says; it took ")
    worker.terminate()
    assert worker.wait(30) == 0
    until(lambda: not any(proc.alive(pid) for pid in family), 15, "no process is left")
