"""What a process that trains asks of its system: as many threads as it has cores, and memory that it keeps.

Both are of the whole process, so that whoever owns it decides: the worker calls this for each attempt.
"""

import ctypes
import math
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

# The numbers of <malloc.h>.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
LARGE = 2**30  # bytes; larger blocks than this still come from the system and go back to it
PAD = 64 * 2**20  # bytes by which the heap grows at least

CGROUP = Path("/sys/fs/cgroup")


def keep_freed_memory() -> bool:
    """Has glibc keep freed blocks for the next step, and says whether it does.

    By default each large tensor (of 32 MB, and often of less) is mapped anew in each step, and the system
    fills its pages with zeros. What threads have freed that decode images is for the steps, too: all threads
    take from one heap. Elsewhere than on glibc nothing is done. What the operator sets in `MALLOC_…_`
    or in `GLIBC_TUNABLES` has been chosen by hand and stays.
    """
    chosen = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # another allocator stands before glibc's
        return False
    settings = {MMAP_THRESHOLD: LARGE, TRIM_THRESHOLD: 2 * LARGE - 1, TOP_PAD: PAD, ARENA_MAX: 1}
    return all(libc.mallopt(name, value) == 1 for name, value in settings.items())


def give_back_freed_memory() -> None:
    """Has glibc give the system all freed blocks that it still has, where what comes takes others."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def use_cores() -> int:
    """Has torch compute with a thread for each core that this process may use; gives their number.

    torch itself counts the machine's cores, and knows nothing of a container's share of them. A number in
    `OMP_NUM_THREADS` or `MKL_NUM_THREADS` has been chosen by hand and stays.
    """
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        torch.set_num_threads(min(torch.get_num_threads(), cores()))
    return torch.get_num_threads()


def cores(cgroup: Path = CGROUP) -> int:
    """How many cores this process may use: by affinity, and by its control group's quota, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores by the time that the control group gets in a period, of version 2 or 1; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        time = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        return time / int((cgroup / "cpu" / "cpu.cfs_period_us").read_text()) if time > 0 else None
    return None
