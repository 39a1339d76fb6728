"""Thaw under load, in raw figures: `python -m benchmarks.load polling`, `python -m benchmarks.load tables`.

`polling` trains a job alone and then beside 200 clients that poll it once a second and 20 slow downloads, in
turn, on a server and a worker of its own. `tables` asks a store with ten jobs and with 100,000 what clients
and workers ask all the time; `--url` names an empty PostgreSQL for it, else it is SQLite.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import machine
from benchmarks.images import lay_out
from benchmarks.load_clients import Seen, press, watch_heartbeats
from benchmarks.load_tables import measure
from benchmarks.serving import served
from client.api import ThawClient
from client.models import Job

LEASE = 30.0
SPEC: dict[str, Any] = {
    "dataset": {"path": "photographs"},
    "backbone": {"name": "resnet18", "weights": None},
    "image_size": 64,
    "recipe": {"name": "joint", "epochs": 20},
}


def main() -> int:
    """Measures one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("polling", "tables"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of each job of `polling`")
    parser.add_argument("--url", help="an empty database for `tables`")
    arguments = parser.parse_args()
    for name, fact in machine.facts().items():
        print(f"{name}: {fact}")
    with tempfile.TemporaryDirectory(prefix="thaw-load-") as folder:
        if arguments.what == "tables":
            measure(arguments.url or f"sqlite:///{folder}/thaw.db", arguments.repeats)
        else:
            SPEC["recipe"]["epochs"] = arguments.epochs
            _polling(Path(folder), arguments.repeats)
    return 0


def _polling(folder: Path, repeats: int) -> None:
    lay_out(None, folder / "data" / "photographs")
    with served(folder, {"THAW_DATA_DIR": str(folder / "data"), "THAW_LEASE_SECONDS": str(LEASE)}) as client:
        first = _alone(client)  # it decodes the images, and is what is downloaded
        alone, beside = list[float](), list[float]()
        for _ in range(repeats):
            alone.append(_rate(client, _alone(client)))
            beside.append(_beside(client, first, folder / "home" / "thaw.db"))
        print(f"images/s alone   {' · '.join(f'{rate:.1f}' for rate in alone)}")
        print(f"images/s beside  {' · '.join(f'{rate:.1f}' for rate in beside)}")
        print(f"medians' ratio   {statistics.median(beside) / statistics.median(alone):.3f}")


def _alone(client: ThawClient) -> Job:
    job = client.submit(SPEC)
    for _ in client.stream_events(job.id):
        pass
    return client.job(job.id)


def _beside(client: ThawClient, first: Job, database: Path) -> float:
    job = client.submit(SPEC)
    seen, oldest = asyncio.run(_press(client, job, first, database))
    rate = _rate(client, client.job(job.id))
    print(f"polls {len(seen.seconds):,}, statuses {dict(seen.statuses)}, downloads {seen.received:,} bytes")
    times = ", ".join(f"{n}th percentile {seen.percentile(n) * 1000:.1f} ms" for n in (50, 99))
    print(f"{times}, longest {max(seen.seconds) * 1000:.1f} ms; oldest heartbeat {oldest:.2f} s of {LEASE:g}")
    return rate


async def _press(client: ThawClient, job: Job, first: Job, database: Path) -> tuple[Seen, float]:
    stop, port = asyncio.Event(), urlsplit(client.base_url).port or 80
    watching = asyncio.create_task(watch_heartbeats(database, job.id, LEASE, stop))
    path, download = f"/v1/jobs/{job.id}", f"/v1/jobs/{first.id}/checkpoints/best/download"
    seen = await press(port, path, download, lambda: client.job(job.id).ended)
    stop.set()
    return seen, await watching


def _rate(client: ThawClient, job: Job) -> float:
    """Images per second over the epochs; the first one, in which things are loaded, does not count."""
    if job.status != "succeeded":
        raise RuntimeError(f"{job.id} {job.status}: {job.status_reason}")
    return statistics.median(epoch.images_per_second or 0.0 for epoch in client.metrics(job.id)[1:])


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print(f"measured for {time.monotonic() - begun:.0f} s")
    sys.exit(code)
