"""Loads torch and the operator's backbones, and computes something.

`python -m app.doctor.probe DEVICE [BACKBONE…]`

A process of its own: a broken driver may crash it, or let it hang. The last line that it prints is JSON.
"""

import json
import sys
from typing import Any


def main(device: str, paths: list[str]) -> int:
    """Tries the device, then the backbones."""
    import torch

    from finetune import backbones
    from finetune.device import choose

    said: dict[str, Any] = {"backbones": backbones.load(paths).failures, "cuda": torch.cuda.is_available()}
    try:
        compute = choose(device, "auto")
        ones = torch.ones(64, 64, device=compute.device)
        if float((ones @ ones).sum()) != 64.0**3:
            raise RuntimeError("it computes wrong products")  # noqa: TRY301  # told as any other failure of it
        said |= {"device": str(compute.device), "precision": compute.precision}
        if compute.device.type == "cuda":
            said["name"] = torch.cuda.get_device_name(compute.device)
    except (RuntimeError, AssertionError) as problem:  # what torch raises where a device is not there
        said["problem"] = str(problem).splitlines()[0]
    sys.stdout.write(f"\n{json.dumps(said)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
