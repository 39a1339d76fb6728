"""Workers that look once a minute by themselves, and are woken for whatever there is to do before."""

import os
import signal
import time
from typing import Any

import httpx
import pytest

from app.store.controls import cancel_job, pause_job, resume_job
from app.store.experiments import create_experiment
from app.store.jobs import create_job
from app.store.records import NewTrial
from app.store.states import Status
from worker import heart

JOB = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_net", "weights": None},
    "recipe": {"name": "joint", "epochs": 1},
    "batch_size": 8,
    "precision": "fp32",
}


@pytest.fixture
def idle(hire, tmp_path, until, monkeypatch):
    """A worker that has looked for a job in vain; it looks by itself once a minute, at its job every 15 s."""
    monkeypatch.setattr(heart, "MOST_SECONDS", 60)
    worker = hire(poll_seconds=60, lease_seconds=60)
    until(lambda: list((tmp_path / "home" / "doorbells").iterdir()), 10, "its doorbell hangs")
    time.sleep(0.3)
    return worker


@pytest.fixture
def is_(look, until):
    def wait(job, status):
        until(lambda: look(job).status is status, 10, f"the job is {status}")
        return look(job)

    return wait


def test_idle_worker_takes_a_job_when_it_is_submitted(idle, post):
    job = post()
    assert idle.attempt().order.job == job


def test_idle_worker_takes_a_job_that_is_tried_again(idle, db, post, is_):
    job = post()
    idle.attempt()
    cancel_job(db, job)
    old = is_(job, Status.CANCELLED)
    time.sleep(0.3)
    again, _ = create_job(db, spec=old.spec, resolved_spec=old.resolved_spec, parent=old)
    assert idle.attempt(2).order.job == again.id


def test_idle_worker_takes_a_job_that_is_resumed(idle, db, post, is_):
    job = post()
    idle.attempt()
    pause_job(db, job)
    is_(job, Status.PAUSED)
    time.sleep(0.3)
    resume_job(db, job)
    assert idle.attempt(2).order.attempt == 2


def test_idle_worker_takes_the_jobs_of_an_experiment(idle, db, post, look):
    spec = look(post()).resolved_spec
    idle.attempt().succeed()
    time.sleep(0.3)
    names: dict[str, Any] = {
        "name": None,
        "metadata": {},
        "spec": {},
        "variants": [],
        "seeds": [0],
        "metric": "val_accuracy",
    }
    trial = NewTrial("a", 0, "a", {}, 0, 3, {}, spec)
    create_experiment(db, {"id": "exp_1", **names}, [trial])
    idle.attempt(2)


def test_job_that_a_worker_gives_back_is_taken_by_an_idle_one(hire, post, idle):
    post()
    idle.attempt()
    other = hire(poll_seconds=60, lease_seconds=60)
    time.sleep(0.3)
    idle.leave()
    assert other.attempt().order.attempt == 2


@pytest.mark.parametrize(
    ("ask", "status"), [(cancel_job, Status.CANCELLED), (pause_job, Status.PAUSED)], ids=["cancel", "pause"]
)
def test_worker_hears_at_once_what_a_client_wants_of_its_job(idle, db, post, is_, ask, status):
    job = post()
    attempt = idle.attempt()
    attempt.progress()
    ask(db, job)
    is_(job, status)
    assert attempt.stopped


def test_worker_without_a_job_ends_at_once_when_it_is_asked_to(idle):
    idle.supervisor.stop()
    idle.thread.join(10)
    assert not idle.thread.is_alive()


def test_worker_whose_doorbell_was_removed_hangs_it_again(hire, post, tmp_path, until):
    worker = hire(poll_seconds=0.05)
    (file,) = (tmp_path / "home" / "doorbells").iterdir()
    file.unlink()
    until(file.exists, 10, "it hangs again")
    post()
    worker.attempt()


def test_worker_in_a_home_with_a_long_path_is_woken_and_ends_when_it_is_told_to(
    make_house, draw_shapes, until, tmp_path
):
    house = make_house(poll_seconds=60)
    home = house.home.joinpath(*["a folder with a name that is long"] * 5)
    home.mkdir(parents=True)
    house.home.joinpath("thaw.db").rename(home / "thaw.db")
    house.settings["THAW_HOME_DIR"] = home
    draw_shapes(house.data / "shapes", train=4, val=2)
    house.serve()
    worker = house.work()
    until(lambda: "worker started" in house.log("worker"), 90, "the worker works")
    time.sleep(0.5)
    job = httpx.post(f"{house.url}/v1/jobs", json=JOB, trust_env=False, timeout=60).json()["id"]
    address = f"{house.url}/v1/jobs/{job}"
    until(lambda: httpx.get(address, trust_env=False).json()["status"] == "succeeded", 50, "it succeeds")
    (file,) = (home / "doorbells").iterdir()
    assert len(os.fsencode(file)) > 108  # what a socket's path may have
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(10) == 0
    assert list((home / "doorbells").iterdir()) == []
