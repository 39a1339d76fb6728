"""How many cores a process that trains computes with.

That is of the whole process, so that whoever owns it decides: the worker calls this for each attempt.
"""

import math
import os
from contextlib import suppress
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


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
