"""Many clients at once, on the real server and with the real worker."""

import asyncio
import hashlib
import time

import pytest

from app.store import attempts
from app.store.database import Database
from app.store.jobs import create_job
from app.store.records import NewCheckpoint
from app.store.reports import record_epoch
from app.store.states import Status
from benchmarks.load_clients import press, watch_heartbeats
from client.api import ThawClient

LEASE = 8.0
CONTENT = hashlib.sha256(b"weights").digest() * 125_000  # 4 MB: more than sockets hold


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(lease_seconds=LEASE)
    draw_shapes(house.data / "shapes", train=40, val=2)
    house.large = _large_checkpoint(house)
    house.serve()
    house.worker = house.work()
    return house


def _large_checkpoint(house):
    """A job that has succeeded with a checkpoint which takes a while to download."""
    db = Database(house.database_url)
    job, _ = create_job(db, spec={}, resolved_spec={})
    held = attempts.claim(db, "w", 60)
    assert held is not None
    file = house.artifacts / job.id / "attempt-1" / "epoch-00001.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    new = NewCheckpoint(file.relative_to(house.artifacts).as_posix(), len(CONTENT), sha256)
    place = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
    record_epoch(db, held, 60, place, new)
    attempts.finish(db, held, Status.SUCCEEDED, "done")
    db.dispose()
    return f"/v1/jobs/{job.id}/checkpoints/last/download"


@pytest.mark.promise("Beside a job, 200 clients and 20 slow downloads are answered, and no heartbeat is late")
def test_clients_and_a_job_do_not_disturb_each_other(house, make_spec, long, tried):
    with ThawClient(house.url) as client:
        rate = {"schedule": {"name": "constant", "lr": 0.01}}
        # Epochs of five seconds: within one, heartbeats alone hold the job.
        stages = [{"name": "all", "epochs": 12 if long else 2, "lr": rate}]
        backbone = {"name": "tiny_slow", "weights": None}
        job = client.submit(make_spec(stages=stages, backbone=backbone, batch_size=1))
        least = time.monotonic() + (60 if long else 8)

        async def load():
            stop = asyncio.Event()
            watching = asyncio.create_task(watch_heartbeats(house.home / "thaw.db", job.id, LEASE, stop))
            ended = lambda: time.monotonic() > least and client.job(job.id).ended  # noqa: E731
            seen = await press(house.port, f"/v1/jobs/{job.id}", house.large, ended, pause=0.05)
            stop.set()
            return seen, await watching

        seen, oldest = asyncio.run(load())
        after = client.job(job.id)
    print(f"99th percentile {seen.percentile(99) * 1000:.0f} ms, oldest heartbeat {oldest:.2f} s")
    assert set(seen.statuses) == {200}
    assert len(seen.seconds) >= 200 * (40 if long else 4)
    assert set(seen.downloads) == {hashlib.sha256(CONTENT).hexdigest()}
    assert sum(seen.downloads.values()) >= 20
    assert (after.status, after.attempt) == ("succeeded", 1), after.error
    assert 0 < oldest < LEASE / 2
    tried(len(seen.seconds) + sum(seen.downloads.values()))
