"""What the figures were measured on."""

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from finetune.processor import processor

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "bf16")
PACKAGES = ("torch", "torchvision", "pillow", "numpy")
BUSY = 0.5  # a load average above it means that others work here, too


def facts() -> dict[str, str]:
    """The machine, the versions, and the date, in words."""
    return {
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "processor": processor("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(flag for flag in FLAGS if flag in processor("flags").split()),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def is_busy() -> bool:
    """Whether others work on this machine."""
    return os.getloadavg()[0] > BUSY


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
