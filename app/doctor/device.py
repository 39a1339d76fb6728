"""Does the device compute, and can the operator's backbones be used?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.doctor.findings import Finding, error, warning, well
from app.settings import Settings

DEVICE, BACKBONES = "device", "backbones"
SECONDS = 180.0  # for torch, from a slow disk, and the operator's backbones
DRIVER = Path("/dev/nvidiactl")  # there where NVIDIA's driver is


def look(settings: Settings) -> Iterator[Finding]:
    """Tries both in a process of their own."""
    said = _probe(settings)
    if isinstance(said, Finding):
        yield said
        return
    yield _device(settings.device, said)
    for path, reason in said["backbones"].items():
        yield error(
            BACKBONES, f"{path} cannot be used: {reason}", "mend it, or take it out of THAW_BACKBONES"
        )
    if settings.backbones and not said["backbones"]:
        yield well(BACKBONES, f"all {len(settings.backbones)} of THAW_BACKBONES can be used")


def _device(wanted: str, said: dict[str, Any]) -> Finding:
    if "problem" in said:
        return error(
            DEVICE,
            f"THAW_DEVICE={wanted} does not work: {said['problem']}",
            "THAW_DEVICE=auto or cpu, or a driver and a torch that fit the GPU",
        )
    if wanted == "auto" and DRIVER.exists() and not said["cuda"]:
        return warning(
            DEVICE,
            "this machine has NVIDIA's driver, and torch sees no GPU: jobs train on the CPU",
            "install a torch that is built for the driver's CUDA",
        )
    name = f" ({said['name']})" if "name" in said else ""
    return well(DEVICE, f"{said['device']}{name} computes; precision auto is {said['precision']}")


def _probe(settings: Settings) -> dict[str, Any] | Finding:
    safe = ["-P"] if sys.flags.safe_path else []
    command = [sys.executable, *safe, "-m", "app.doctor.probe", settings.device, *settings.backbones]
    remedy = "reinstall torch (`make setup`); with THAW_DEVICE=cpu no driver is asked"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return error(DEVICE, f"loading torch and the backbones took more than {SECONDS:g} seconds", remedy)
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return error(DEVICE, f"torch cannot be used (exit code {done.returncode}): {last}", remedy)
    return said
