"""What the fork server has loaded before the first attempt. Each test looks at it in a process of its own."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune.recipes import resolve
from finetune.spec.job import JobSpec
from worker.engine import PRELOADED

# As the fork server does it: load, fork, run an attempt. Prints its last message and what it loaded itself.
FORK = """
import json, os, sys
import worker.preload
from pathlib import Path
from worker.engine import _run
from worker.orders import Order

class Pipe:
    def send(self, message):
        self.last = type(message).__name__
    def recv(self):
        return True

order = json.loads(sys.argv[1])
for name in ("folder", "data_dir", "weights_dir", "cache_dir", "checks_dir"):
    order[name] = Path(order[name])
before, pipe = set(sys.modules), Pipe()
if os.fork() == 0:
    _run(Order(**order), pipe)
    print(json.dumps([pipe.last, sorted(set(sys.modules) - before)]), flush=True)
    os._exit(0)
os.wait()
"""


@dataclass
class Forked:
    last: str
    loaded: list[str]


@pytest.fixture
def fork(tmp_path, draw_shapes):
    def fork(data_workers: int, changes: dict[str, Any]) -> Forked:
        spec = JobSpec.model_validate(
            {
                "dataset": {"path": "shapes"},
                "backbone": {"name": "resnet18", "weights": None},
                "recipe": {"name": "two_stage", "head_epochs": 1, "full_epochs": 1},
                "image_size": 32,
                "batch_size": 8,
                **changes,
            }
        )
        draw_shapes(tmp_path / "data" / "shapes", train=4, val=2)
        order = {
            "job": "job",
            "attempt": 1,
            "spec": resolve(spec, list).model_dump(mode="json"),
            "backbones": [],
            "device": "cpu",
            "data_workers": data_workers,
            "cache_bytes": 10**8,
            **{name: str(tmp_path / name) for name in ("folder", "weights_dir", "cache_dir", "checks_dir")},
            "data_dir": str(tmp_path / "data"),
        }
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", FORK, json.dumps(order)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=200, check=True)
        return Forked(*json.loads(done.stdout.splitlines()[-1]))

    return fork


TRIPLET = {
    "recipe": {"name": "triplet", "epochs": 1},
    "objective": {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2},
}


@pytest.mark.parametrize(("data_workers", "changes"), [(1, {}), (0, TRIPLET)], ids=["classes", "triplet"])
def test_attempt_finds_everything_loaded_that_it_needs(fork, data_workers, changes):
    forked = fork(data_workers, changes)
    assert forked.last == "RunEnded"
    assert forked.loaded == []


def test_fork_server_has_nothing_to_search_for_garbage_touches_no_gpu_and_ends_in_order():
    look = (
        "import gc, threading, torch, worker.preload;"
        "print(gc.get_freeze_count(), threading.active_count(), torch.cuda.is_initialized())"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=200, check=True
    )
    kept, threads, gpu = done.stdout.split()
    assert int(kept) > 100_000
    assert (threads, gpu) == ("1", "False")
    assert done.stderr == ""


FAULTS_OF_AN_ATTEMPT = """
import importlib, os, resource, sys, threading
for module in sys.argv[1].split(","):
    importlib.import_module(module)
import torch
from finetune.heap import keep_freed_memory
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(2**18, dtype=torch.uint8) for _ in range(128)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
if not os.fork():
    kept = keep_freed_memory()
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    print(kept, fill(), flush=True)
    os._exit(0)
os.wait()
"""


def faults(modules):
    """Page faults of an attempt that fills 32 MB, as much as a thread of its own has freed before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS_OF_AN_ATTEMPT, ",".join(modules)]
    printed = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    kept, count = printed.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")
def test_memory_that_a_thread_of_an_attempt_freed_is_given_out_again_without_page_faults():
    pages = 32 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    kept, count = faults(PRELOADED)
    assert (kept, count < pages / 10) == ("True", True)
    _, without = faults(PRELOADED[1:])
    assert without > pages / 2
