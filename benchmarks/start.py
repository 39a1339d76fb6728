"""Times a job's way from its submission to its first step, and from its last epoch to the next job's claim.

`python benchmarks/start.py` starts a server and a worker with a home of their own, and gives them small jobs:
ResNet-18 with random weights and 64 pixels, of which one kind trains everything and the other the head on
features that are in the cache. The first job of each kind fills the caches and does not count. Prints
milliseconds; building the network, random numbers and all, is what the network itself takes.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from app.store.migrate import migrate  # noqa: E402  # found by the line above
from benchmarks.timed_network import LOG  # noqa: E402

KINDS = {"everything": {"name": "joint", "epochs": 1}, "head": {"name": "linear_probe", "epochs": 1}}
PARTS = (  # name, from, to
    ("submission → claim", "submitted", "job.running"),
    ("claim → data checked, network built", "job.running", "job.prepared"),
    ("… → stage ready", "job.prepared", "stage.started"),
    ("… → first step", "stage.started", "step"),
    ("claim → first step", "job.running", "step"),
    ("last epoch → succeeded", "job.epoch", "job.succeeded"),
)


class House:
    """A server and a worker with a home of their own."""

    def __init__(self, root: Path) -> None:
        self.log = root / "steps.log"
        home = root / "home"
        home.mkdir()
        draw(root / "data" / "noise", train=16, val=8)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("THAW_")},
            "THAW_HOME_DIR": str(home),
            "THAW_DATA_DIR": str(root / "data"),
            "THAW_PORT": str(port),
            "THAW_BACKBONES": "benchmarks.timed_network:network",
            "THAW_DEVICE": "cpu",
            LOG: str(self.log),
        }
        migrate(f"sqlite:///{home / 'thaw.db'}")
        self.output = root / "output.log"

    @contextmanager
    def runs(self, *module: str) -> Iterator[None]:
        """A process of this house, which is ended afterwards."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module], cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def noted(self) -> list[tuple[str, float]]:
        """What the networks have written down since this was last asked."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.write_text("")
        return [(what, value) for what, value in map(json.loads, lines)]


def draw(folder: Path, train: int, val: int) -> None:
    """Soft noise as an image folder of two classes, with so many images of each."""
    dice = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name in ("this", "that"):
            target = folder / split / name
            target.mkdir(parents=True)
            for number in range(count):
                patches = Image.fromarray(dice.integers(0, 256, (9, 12, 3), dtype=np.uint8))
                patches.resize((160, 120), Image.Resampling.BICUBIC).save(target / f"{number}.jpg")


def wait_for(http: httpx.Client, path: str, seconds: float) -> None:
    """Waits until the server is ready, or a worker has taken and ended a job."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            answer = http.get(path)
            if answer.status_code == 200 and answer.json().get("status") not in ("queued", "running"):
                return
        time.sleep(0.1)
    raise SystemExit(f"waited {seconds:g} s in vain for {path}")


def submit(http: httpx.Client, kind: str) -> tuple[str, float]:
    """A job's id, and when it was sent."""
    spec = {
        "dataset": {"path": "noise", "on_problem": "skip"},
        "backbone": {"name": "timed_resnet18", "weights": None},
        "recipe": KINDS[kind],
        "batch_size": 16,
    }
    sent = time.time()
    return http.post("/v1/jobs", json=spec).raise_for_status().json()["id"], sent


def times_of(http: httpx.Client, house: House, job: str) -> dict[str, float]:
    """When what happened to a job that has ended: Unix seconds, and `build` in seconds."""
    told = http.get(f"/v1/jobs/{job}/events", params={"limit": 1000}).json()["data"]
    found: dict[str, Any] = {event["type"]: event["created_at"] for event in told}
    if "job.succeeded" not in found:
        raise SystemExit(f"{job} did not succeed: {told[-1]['message']}")
    return found | dict(house.noted())


def measure(http: httpx.Client, house: House, kind: str, count: int) -> None:
    """Gives an idle worker one job after the other, then all at once; prints what each part took."""
    took = defaultdict[str, list[float]](list)
    for number in range(count + 1):
        job, sent = submit(http, kind)
        wait_for(http, f"/v1/jobs/{job}", 600)
        at = times_of(http, house, job) | {"submitted": sent}
        if number == 0:
            continue
        for name, begin, end in PARTS:
            took[name].append(at[end] - at[begin])
        took["of it building the network"].append(at["build"])
        took["claim → first step, without building"].append(at["step"] - at["job.running"] - at["build"])
    queued = [submit(http, kind)[0] for _ in range(count + 1)]
    wait_for(http, f"/v1/jobs/{queued[-1]}", 600)
    ends = [times_of(http, house, job) for job in queued]
    for one, following in pairwise(ends):
        took["succeeded → next claim"].append(following["job.running"] - one["job.succeeded"])
    print(f"\n{count} jobs that train {kind}, milliseconds")
    for name, values in took.items():
        milliseconds = [1000 * value for value in values]
        print(
            f"{name:38} median {statistics.median(milliseconds):7.0f}"
            f"  least {min(milliseconds):7.0f}  most {max(milliseconds):7.0f}"
        )


def main() -> int:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10, help="of each kind, one by one and in a row")
    count = parser.parse_args().jobs
    with ExitStack() as stack:
        house = House(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(house.runs("app", "serve"))
        stack.enter_context(house.runs("worker"))
        http = stack.enter_context(httpx.Client(base_url=house.url, trust_env=False, timeout=60))
        wait_for(http, "/readyz", 120)
        for kind in KINDS:
            measure(http, house, kind, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
