import os
import platform
import subprocess
import sys

import pytest

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")

FAULTS = """
import resource, sys, torch
from finetune.heap import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def fill(size=64 * 2**20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill(96 * 2**20)  # larger: an aligned block does not fit into a freed one of its own size
print(kept, min(fill() for _ in range(3)))
"""


def faults(how, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS, how]
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
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}]
)
def test_what_the_operator_has_set_stays(environment):
    assert faults("keep", **environment)[0] == "False"
