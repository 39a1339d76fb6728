"""Cancelling and pausing a job whatever it is doing: real workers, networks that hang where the test says."""

import os
import time

import pytest

from client.api import ThawClient

# Hangs for as long as there is a file of that name, and says so in another one. Where the file says "hard" it
# does so in one long call, in which no Python code hears of anything.
HANGING = """
import hashlib
import time
from pathlib import Path

import torch
from torch import nn

from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet

HERE = Path(__file__).parent


class Hanging(nn.Module):
    def __init__(self):
        super().__init__()
        self.trained = False

    def forward(self, images):
        if type(images) is not torch.Tensor or images.is_meta:  # looked at, not run
            return images
        self.trained |= self.training
        hang("step" if self.training else "validation" if self.trained else "fresh")
        return images


def hang(name):
    file = HERE / name
    while file.exists():
        (HERE / f"{name}.hangs").touch()
        if file.read_text() == "hard":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
        time.sleep(0.01)


@register(name="hanging", head="head", preprocessing=SMALL)
def backbone(classes):
    net = TinyNet(classes)
    net.body.append(Hanging())
    return net
"""
WHOLE = {"name": "all", "epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}
HEAD = {**WHOLE, "name": "head", "freeze": {"policy": "backbone"}}
PHASES = {
    "check": ("many", HEAD, None),
    "features": ("shapes", HEAD, "fresh"),
    "step": ("shapes", WHOLE, "step"),
    "validation": ("shapes", WHOLE, "validation"),
    "report": ("shapes", WHOLE, "fresh"),
}
MANY = 1_500  # images of a class, whose check takes a while


@pytest.fixture(scope="module")
def house(make_house, draw_shapes):
    house = make_house(lease_seconds=3, grace_seconds=60)
    (house.root / "hanging.py").write_text(HANGING)
    house.settings["THAW_BACKBONES"] += ",hanging:backbone"
    draw_shapes(house.data / "shapes", train=4, val=2)
    draw_shapes(house.data / "many", train=4, val=2)
    for folder in (house.data / "many" / "train").iterdir():
        images = list(folder.iterdir())
        for number in range(MANY):
            os.link(images[number % len(images)], folder / f"link-{number}.png")
    house.serve()
    house.worker = house.work()
    with ThawClient(house.url) as opened:
        house.client = opened
        yield house
    assert house.worker.poll() is None


@pytest.fixture
def doing(house, until):
    """Submits a job and waits until it is in a phase; gives the job."""
    signs = []

    def submit(phase, how=""):
        dataset, stage, sign = PHASES[phase]
        if sign is not None:
            signs.append(house.root / sign)
            signs[-1].write_text(how)
        spec = {
            "dataset": {"path": dataset},
            "backbone": {"name": "hanging", "weights": None},
            "stages": [stage],
            "batch_size": 6,
            "precision": "fp32",
        }
        job = house.client.submit(spec)
        until(lambda: house.client.job(job.id).status == "running", 60, "the job runs")
        if sign is not None:
            until((house.root / f"{sign}.hangs").exists, 60, f"it hangs in its {phase}")
        return job

    yield submit
    for file in signs:
        file.unlink(missing_ok=True)
        file.with_name(f"{file.name}.hangs").unlink(missing_ok=True)


def check_ends(house, proc, until, job, begun, status):
    """Holds the end of a job against what is promised: soon, and without its process."""
    until(lambda: house.client.job(job.id).status == status, 20, f"the job is {status}")
    assert time.monotonic() - begun < 5
    assert proc.attempts(house.worker.pid) == []
    ended = house.client.job(job.id)
    assert (ended.error, ended.worker) == (None, None)


@pytest.mark.promise("Cancel frees the device within one step and one heartbeat, whatever the job is doing")
@pytest.mark.parametrize("phase", PHASES)
def test_cancel_frees_the_device_at_once_in_each_phase(house, doing, proc, until, phase):
    job = doing(phase, "hard" if phase in ("step", "validation") else "")
    begun = time.monotonic()
    assert house.client.cancel(job.id).status == "cancelling"
    check_ends(house, proc, until, job, begun, "cancelled")
    told = [event.type for event in house.client.events(job.id)]
    assert ("job.prepared" in told) == (phase != "check")
    assert ("stage.features" in told, "job.epoch" in told) == (False, phase == "report")


@pytest.mark.promise("Cancel wins over a pause that is under way")
@pytest.mark.parametrize("phase", ["step", "validation"])
def test_cancel_wins_over_a_pause_that_waits_for_a_step(house, doing, proc, until, phase):
    job = doing(phase, "hard")
    assert house.client.pause(job.id).status == "pausing"
    time.sleep(1)
    assert house.client.job(job.id).status == "pausing"
    begun = time.monotonic()
    assert house.client.cancel(job.id).status == "cancelling"
    check_ends(house, proc, until, job, begun, "cancelled")


@pytest.mark.promise("Pause frees the worker at once where a job makes no steps")
@pytest.mark.parametrize("phase", ["check", "features", "report"])
def test_pause_frees_the_worker_at_once_where_there_are_no_steps(house, doing, proc, until, ended, phase):
    job = doing(phase)
    begun = time.monotonic()
    assert house.client.pause(job.id).status == "pausing"
    check_ends(house, proc, until, job, begun, "paused")
    if phase == "check":  # it would train on very many images
        assert house.client.cancel(job.id).status == "cancelled"
        return
    (house.root / "fresh").unlink()
    assert house.client.resume(job.id).status == "queued"
    after = ended(house.client, job.id)
    assert (after.status, after.attempt) == ("succeeded", 2), after.error
    assert [record.global_epoch for record in house.client.metrics(job.id)] == [1, 2]
    assert [record.attempt for record in house.client.metrics(job.id)] == [1 if phase == "report" else 2] * 2
