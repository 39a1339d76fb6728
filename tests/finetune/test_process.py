import os
import platform
import subprocess
import sys

import pytest
import torch

from finetune.process import cores, use_cores

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")

FAULTS = """
import resource, sys, torch
from finetune.process import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def fill(size=64 * 2**20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill(96 * 2**20)  # larger: an aligned block does not fit into a freed one of its own size
print(kept, min(fill() for _ in range(3)))
"""


FAULTS_AFTER_A_THREAD = """
import resource, sys, threading, torch
from finetune.process import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(2**18, dtype=torch.uint8) for _ in range(128)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
thread = threading.Thread(target=fill)
thread.start()
thread.join()
print(kept, fill())
"""


def faults(how, script=FAULTS, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", script, how]
    printed = subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    kept, count = printed.stdout.split()
    return kept, int(count)


@needs_glibc
def test_memory_that_was_freed_is_given_out_again_without_page_faults():
    pages = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    kept, count = faults("keep")
    assert (kept, count < pages / 100) == ("True", True)
    _, without = faults("leave")
    assert without > 10 * max(count, 1)


@needs_glibc
def test_memory_that_another_thread_freed_is_given_out_again_without_page_faults():
    pages = 32 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    kept, count = faults("keep", FAULTS_AFTER_A_THREAD)
    assert (kept, count < pages / 10) == ("True", True)
    _, without = faults("leave", FAULTS_AFTER_A_THREAD)
    assert without > pages / 2


@needs_glibc
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}]
)
def test_what_the_operator_has_set_stays(environment):
    assert faults("keep", **environment)[0] == "False"


@pytest.fixture
def eight(monkeypatch):
    """A process that may use eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9900000 100000", 8),
    ],
)
def test_a_containers_share_of_the_cores_counts(eight, tmp_path, limit, expected):
    (tmp_path / "cpu.max").write_text(limit)
    assert cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("150000", 2)])
def test_so_does_that_of_the_older_control_groups(eight, tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores(tmp_path) == expected


def test_without_a_limit_all_cores_that_the_process_may_use_count(eight, tmp_path):
    assert cores(tmp_path) == 8


def test_torch_takes_the_cores_unless_the_operator_says_otherwise(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr("finetune.process.cores", lambda: 1)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        assert use_cores() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        assert use_cores() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
