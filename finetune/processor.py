"""The processor, as Linux describes it."""

from pathlib import Path

DESCRIPTION = Path("/proc/cpuinfo")


def processor(field: str) -> str:
    """What is said of the first one under `vendor_id`, `model name` or `flags`; "" where nothing is."""
    try:
        lines = DESCRIPTION.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
