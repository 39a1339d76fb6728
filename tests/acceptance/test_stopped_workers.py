"""Workers that are stopped, told to end, or left by their server, in the middle of a real job."""

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import suppress

import httpx
import pytest

from app.store.database import Database
from app.store.epochs import list_epochs
from client.api import ThawClient
from client.errors import Refused

EPOCHS = 4
LEASE = 3
STEPS = 18  # of an epoch, each of 40 ms or more

# Makes one step of half a minute, in which no Python code hears of anything, once its file is there.
STUCK = """
import hashlib
from pathlib import Path

from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet


class Stuck(TinyNet):
    def step(self, images):
        if self.training:
            Path(__file__).with_suffix(".steps").touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


@register(name="stuck", head="head", preprocessing=SMALL)
def backbone(classes):
    return Stuck(classes)
"""


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(lease_seconds=LEASE, grace_seconds=15)
    (house.root / "stuck.py").write_text(STUCK)
    house.settings["THAW_BACKBONES"] += ",stuck:backbone"
    draw_shapes(house.data / "shapes", train=2 * STEPS // 3, val=4)
    house.server = house.serve()
    with ThawClient(house.url) as opened:
        house.client = opened
        yield house


@pytest.fixture
def work(house):
    """Starts workers that end with the test."""
    started = []

    def start():
        started.append(house.work())
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def spec():
    """Two stages with momentum, dropout, augmentation and a moving average to get wrong."""
    steady = {"name": "sgd", "momentum": 0.9}
    return {
        "dataset": {"path": "shapes"},
        "backbone": {"name": "tiny_slow", "weights": None},
        "head": {"dropout": 0.2},
        "stages": [
            {
                "name": "head",
                "epochs": 1,
                "freeze": {"policy": "backbone"},
                "lr": {"schedule": {"name": "constant", "lr": 0.1}},
            },
            {
                "name": "all",
                "epochs": EPOCHS - 1,
                "optimizer": steady,
                "lr": {"schedule": {"name": "cosine", "lr": 0.05, "end_lr": 0.001}, "warmup_epochs": 1},
                "augmentation": "standard",
                "ema": {"decay": 0.9},
            },
        ],
        "batch_size": 2,
        "precision": "fp32",
    }


@pytest.fixture(scope="module")
def uninterrupted(house, spec, ended, tmp_path_factory, read_weights):
    """The last weights of a run that nothing happened to."""
    process = house.work()
    job = ended(house.client, house.client.submit(spec).id)
    process.terminate()
    assert process.wait(20) == 0
    assert job.status == "succeeded", job.error
    return read_weights(house.client.download(job.id, "last", tmp_path_factory.mktemp("whole"))).bytes


@pytest.fixture
def reach(house, until):
    """Waits until a job is at that step or behind it; gives epoch and step.

    Progress is told with each heartbeat, which is about once an epoch here: it may be seen an epoch late.
    """

    def wait(job, epoch, step):
        def there():
            at = house.client.job(job.id).progress
            return at and (at.stage_index, at.epoch, at.step) >= (1, epoch, step) and at

        at = until(there, 60, f"step {step} of epoch {epoch} is done")
        return at.epoch, at.step

    return wait


@pytest.fixture
def check_exact(house, uninterrupted, tmp_path, read_weights):
    def check(job):
        assert job.status == "succeeded", job.error
        records = house.client.metrics(job.id)
        assert [record.global_epoch for record in records] == list(range(1, EPOCHS + 1))
        tried = [record.attempt for record in records]
        assert tried == sorted(tried)
        last = house.client.download(job.id, "last", tmp_path / f"{job.id}.safetensors")
        assert read_weights(last).bytes == uninterrupted

    return check


def went_on_at(house, job):
    """Where each attempt began with the second stage: epoch, and steps that were done of it."""
    told = [e.data for e in house.client.events(job.id) if e.type == "stage.started"]
    return [(data["epoch"], data["step"]) for data in told if data["stage_index"] == 1]


def rows_of(house, job, attempt):
    """All rows that an attempt has written."""
    with sqlite3.connect(house.database_url.removeprefix("sqlite:///")) as connection:
        (seq,) = connection.execute("SELECT seq FROM jobs WHERE id = ?", [job.id]).fetchone()
        wanted = {
            "attempts": "number = ?",
            "epochs": "attempt = ?",
            "checkpoints": "attempt = ?",
            "events": "json_extract(data, '$.attempt') = ?",
        }
        return {
            table: connection.execute(
                f"SELECT * FROM {table} WHERE job_seq = ? AND {condition} ORDER BY 1, 2, 3", [seq, attempt]
            ).fetchall()
            for table, condition in wanted.items()
        }


def stop_between_writes(house, pids):
    """Stops processes. One that is stopped in the middle of a write would hold SQLite for all others, too."""
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        other = sqlite3.connect(
            house.database_url.removeprefix("sqlite:///"), isolation_level=None, timeout=1
        )
        try:
            other.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        finally:
            other.close()


def without_dropped(before, after):
    """The checkpoints before, of which the next attempt may have let some go."""
    return [row for row in before["checkpoints"] if row in after["checkpoints"]]


@pytest.mark.promise("A worker that was away past its lease changes nothing, and ends its attempt itself")
@pytest.mark.timeout(4 * 3600)
def test_worker_that_is_stopped_past_its_lease_and_woken_ends_its_attempt_and_changes_nothing(
    house, work, spec, reach, until, proc, ended, check_exact, long, tried
):
    times, dice = (10 if long else 2), random.Random(3)
    tried(times)
    for number in range(times):
        old = work()
        job = house.client.submit(spec)
        reach(job, 1, dice.randrange(1, STEPS))
        (attempt,) = proc.attempts(old.pid)
        asleep = [old.pid] if number % 2 else [old.pid, *proc.descendants(old.pid)]
        stop_between_writes(house, asleep)
        assert not house.client.job(job.id).ended, "the job was too quick for this test"
        new = work()
        until(lambda job=job: house.client.job(job.id).attempt == 2, 60, "another one has the job")
        before = rows_of(house, job, 1)
        for pid in asleep:
            os.kill(pid, signal.SIGCONT)
        until(lambda attempt=attempt: not proc.alive(attempt), 5, "the old attempt has ended")
        after = ended(house.client, job.id)
        check_exact(after)
        assert after.attempt == 2
        left = rows_of(house, job, 1)
        assert left["checkpoints"] == without_dropped(before, left)
        assert {name: rows for name, rows in left.items() if name != "checkpoints"} == {
            name: rows for name, rows in before.items() if name != "checkpoints"
        }
        assert old.poll() is None
        for process in (old, new):
            process.terminate()
            assert process.wait(20) == 0


@pytest.mark.promise("The job of a worker that lives is never taken, with a database locked for half a lease")
def test_real_worker_keeps_its_job_through_locks_of_half_a_lease(
    house, work, spec, reach, ended, check_exact, long, tried
):
    work(), work()
    times, dice = (20 if long else 2), random.Random(5)
    tried(times)
    job = house.client.submit({**spec, "max_attempts": 1})
    reach(job, 1, 1)
    for _ in range(times):
        other = sqlite3.connect(house.database_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(LEASE / 2)
        other.execute("ROLLBACK")
        other.close()
        time.sleep(dice.uniform(0.0, LEASE / 4))
        if house.client.job(job.id).ended:
            job = house.client.submit({**spec, "max_attempts": 1})
            reach(job, 1, 1)
    after = ended(house.client, job.id)
    check_exact(after)
    assert after.attempt == 1
    assert not any((event.data or {}).get("code") == "worker_lost" for event in house.client.events(job.id))


@pytest.mark.promise("SIGTERM: the worker saves, gives its job back, charges no attempt, and ends in time")
@pytest.mark.parametrize("told", ["the worker", "all of its processes"])
def test_worker_that_is_told_to_end_saves_at_its_next_step_and_gives_the_job_back(
    house, work, spec, reach, ended, check_exact, proc, told
):
    process = work()
    job = house.client.submit({**spec, "max_attempts": 1})
    at = reach(job, 2, STEPS // 3)
    (attempt,) = proc.attempts(process.pid)
    (fork_server,) = [pid for pid in proc.descendants(process.pid) if attempt in proc.descendants(pid)]
    os.kill(fork_server, signal.SIGTERM)  # it stays for as long as its worker does
    time.sleep(0.2)
    assert proc.alive(fork_server)
    begun = time.monotonic()
    if told == "the worker":
        process.terminate()
    else:  # as systemd does
        os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 15
    given_back = house.client.job(job.id)
    assert (given_back.status, given_back.worker) == ("queued", None)
    work()
    after = ended(house.client, job.id)
    check_exact(after)
    assert after.attempt == 2
    _, second = went_on_at(house, job)
    assert second >= at


@pytest.mark.promise("Pause saves at the next step and frees the worker; the job goes on exactly")
def test_paused_job_goes_on_at_the_step_where_it_was(
    house, work, spec, reach, until, ended, check_exact, proc, long, tried
):
    process, dice = work(), random.Random(7)
    jobs, times = (6 if long else 1), 2
    tried(jobs * times)
    for _ in range(jobs):
        job = house.client.submit({**spec, "max_attempts": 1})
        for number in range(times):
            at = reach(job, 1 + number, dice.randrange(1, STEPS - 8))
            assert house.client.pause(job.id).status == "pausing"
            until(lambda job=job: house.client.job(job.id).status == "paused", 10, "the job is paused")
            assert proc.attempts(process.pid) == []
            assert house.client.resume(job.id).status == "queued"
            until(lambda n=number, job=job: len(went_on_at(house, job)) == n + 2, 30, "it goes on")
            assert went_on_at(house, job)[-1] >= at
        after = ended(house.client, job.id)
        check_exact(after)
        assert after.attempt == times + 1


@pytest.mark.promise("A second SIGTERM ends the worker at once")
def test_worker_that_is_told_to_end_twice_ends_at_once(house, work, spec, until, proc):
    sign = house.root / "stuck.steps"
    sign.unlink(missing_ok=True)
    process = work()
    job = house.client.submit({**spec, "backbone": {"name": "stuck", "weights": None}, "max_attempts": 1})
    until(sign.exists, 60, "it is in a step that takes long")
    family = proc.descendants(process.pid)
    process.terminate()
    time.sleep(1)
    assert process.poll() is None
    begun = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 5
    until(lambda: not any(proc.alive(pid) for pid in family), 15, "no process is left")
    given_back = house.client.job(job.id)
    assert (given_back.status, given_back.worker) == ("queued", None)
    assert house.client.cancel(job.id).status == "cancelled"


def test_worker_that_is_told_to_end_while_it_starts_ends_at_once(house, until, proc):
    process = house.work()
    until(lambda: proc.descendants(process.pid), 30, "its fork server starts")
    begun = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 10


@pytest.mark.promise("SIGKILL of the server: the worker goes on, and no row is missing")
@pytest.mark.timeout(1200)
def test_worker_goes_on_without_its_server_and_no_row_is_missing(
    house, work, spec, reach, until, ended, check_exact, long, tried
):
    work()
    db, answered = Database(house.database_url), []

    def post():
        small = {**spec, "priority": -9, "recipe": {"name": "joint", "epochs": 1}, "stages": None}
        try:
            while True:
                made = httpx.post(f"{house.url}/v1/jobs", json=small, trust_env=False, timeout=30)
                answered.append(made.raise_for_status().json()["id"])
        except httpx.TransportError:
            return

    times = 3 if long else 1
    tried(times)
    for _ in range(times):
        job = house.client.submit(spec)
        reach(job, 1, 1)
        client = threading.Thread(target=post)
        client.start()
        before = len(answered)
        until(lambda n=before: len(answered) > n + 5, 60, "jobs are submitted")
        house.server.kill()
        house.server.wait()
        client.join()
        done = len(list_epochs(db, job.id))
        until(lambda n=done, job=job: len(list_epochs(db, job.id)) > n, 60, "an epoch ends without a server")
        house.server = house.serve()
        after = ended(house.client, job.id)
        check_exact(after)
        assert after.attempt == 1
        events = house.client.events(job.id)
        told = [event.data["global_epoch"] for event in events if event.type == "job.epoch"]
        assert told == list(range(1, EPOCHS + 1))
    for one in answered:
        assert house.client.job(one).status in ("queued", "running", "succeeded")
        with suppress(Refused):  # it has just ended
            house.client.cancel(one)
    db.dispose()
