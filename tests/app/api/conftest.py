"""A house whose jobs have been trained by a real worker, for what is predicted with them."""

import hashlib
import io
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image

from app.api.report_examples import REPORT
from app.store.attempts import finish
from app.store.job_reports import record_report
from app.store.records import NewReport
from app.store.states import Status
from finetune.report.predictions import table_of, write_table

MOST_BYTES = 200_000
# Sleeps where it answers, as long as there is a file `slow`; says so in a file `asleep`.
SLEEPY = """
import os
import time
from pathlib import Path

from finetune.backbones import backbone as register
from tiny_net import SMALL, TinyNet


class Sleepy(TinyNet):
    def step(self, images):
        if not self.training and Path("slow").exists():
            Path("asleep").write_text(str(os.getpid()))
            while Path("slow").exists():
                time.sleep(0.01)


class Broken(TinyNet):
    def step(self, images):
        if Path("broken").exists():
            raise RuntimeError(f"cannot go on with {Path(__file__).absolute()}")


@register(name="sleepy", head="head", preprocessing=SMALL)
def backbone(classes):
    return Sleepy(classes)


@register(name="broken", head="head", preprocessing=SMALL)
def broken(classes):
    return Broken(classes)
"""
TRIPLET = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2}
JOBS: dict[str, dict[str, Any]] = {
    "classes": {},
    "labels": {"objective": {"name": "binary_cross_entropy"}},
    "embedding": {"objective": TRIPLET},
    "sleepy": {"backbone": {"name": "sleepy", "weights": None}},
    "broken": {"backbone": {"name": "broken", "weights": None}},
    "spare": {"seed": 1},
    "doomed": {},
}


@pytest.fixture(scope="session")
def thaw(make_house, draw_shapes, until):
    """A house with a server, and jobs that have succeeded: their ids by what they are for."""
    house = make_house(predict_bytes=MOST_BYTES)
    (house.root / "sleepy.py").write_text(SLEEPY)
    house.settings["THAW_BACKBONES"] += ",sleepy:backbone,sleepy:broken"
    draw_shapes(house.data / "shapes", train=4, val=2)
    house.server, worker = house.serve(), house.work()
    house.submit = lambda **changes: _submit(house, **changes)
    house.jobs = {name: house.submit(**changes) for name, changes in JOBS.items()}

    def succeeded(job):
        found = httpx.get(f"{house.url}/v1/jobs/{job}", trust_env=False, timeout=30).json()
        assert found["status"] in ("queued", "running", "succeeded"), found["error"]
        return found["status"] == "succeeded"

    for job in house.jobs.values():
        until(lambda job=job: succeeded(job), 120, "the job has succeeded")
    worker.terminate()
    worker.wait(20)
    return house


def _submit(house, **changes):
    spec = {
        "dataset": {"path": "shapes"},
        "backbone": {"name": "tiny_net", "weights": None},
        "recipe": {"name": "joint", "epochs": 2},
        "batch_size": 8,
        "precision": "fp32",
    }
    response = httpx.post(f"{house.url}/v1/jobs", json=spec | changes, trust_env=False, timeout=90)
    assert response.status_code == 201, response.text
    return response.json()["id"]


@pytest.fixture(scope="session")
def http(thaw):
    def check(response):
        response.read()
        assert response.headers["X-Request-ID"]
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code", "details"}
            assert str(thaw.root) not in response.text
            assert "Traceback" not in response.text
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) > 0

    hooks = {"response": [check]}
    with httpx.Client(base_url=thaw.url, event_hooks=hooks, trust_env=False, timeout=150) as client:
        yield client


@pytest.fixture
def report(hold, write_epoch, store, house):
    """Lets a job succeed with a report of these answers; gives the address of the report."""

    def make(answers, content=None, **changes):
        held = hold(**changes)
        checkpoint = write_epoch(held, 1)
        folder = house.artifacts / held.job_id / "attempt-1"
        (folder / "report.json").write_text(json.dumps(REPORT))
        about = {"objective": "any", "classes": list(answers.classes), **answers.about()}
        write_table(table_of(answers.columns(), about), folder / "predictions.parquet")
        if content is not None:
            (folder / "predictions.parquet").write_bytes(content)
        files: list[Any] = []
        for name in ("report.json", "predictions.parquet"):
            data = (folder / name).read_bytes()
            files += [f"{held.job_id}/attempt-1/{name}", len(data), hashlib.sha256(data).hexdigest()]
        record_report(store, held, 600, NewReport(checkpoint.path, *files), "ready", {})
        finish(store, held, Status.SUCCEEDED, "all stages are done")
        return f"/v1/jobs/{held.job_id}/report"

    return make


@pytest.fixture
def predict(thaw, http):
    """Sends a content as it is, or several in a form; gives the response."""

    def send(*contents, job="classes", names=None, headers=None, **params):
        address = f"/v1/jobs/{thaw.jobs.get(job, job)}/predict"
        if names is None and len(contents) == 1:
            headers = {"Content-Type": "image/png"} | (headers or {})
            return http.post(address, content=contents[0], headers=headers, params=params)
        names = names or [f"{index}.png" for index in range(len(contents))]
        files = [("images", (name, content)) for name, content in zip(names, contents, strict=True)]
        return http.post(address, files=files, params=params)

    return send


@pytest.fixture(scope="session")
def pictures():
    """Five images, as the bytes of files."""
    return [_png(Image.new("RGB", (24, 24), colour)) for colour in ("red", "white", "black", "blue", "lime")]


@pytest.fixture(scope="session")
def photo():
    """A JPEG of some size."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((300, 300)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def fails():
    """Holds a refusal against its status, its code and words of its message; gives the error."""

    def check(response, status, code, *words):
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert error["code"] == code
        for word in words:
            assert word in error["message"]
        return error

    return check


@pytest.fixture
def predictor(thaw, proc):
    """Gives the process that predicts, if there is one."""

    def find():
        found = [pid for pid in proc.descendants(thaw.server.pid) if "spawn_main" in _command(pid)]
        assert len(found) <= 1
        return found[0] if found else None

    return find


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture
def asleep(thaw, until):
    """`with asleep() as sleep`: networks called sleepy take as long as that.

    `sleep.next()` waits until one sleeps and gives its process; `sleep.end()` wakes all.
    """
    slow, sign = thaw.root / "slow", thaw.root / "asleep"

    def next_sleeper():
        pid = int(until(lambda: sign.exists() and sign.read_text(), 60, "a network sleeps"))
        sign.unlink()
        return pid

    @contextmanager
    def sleeping():
        sign.unlink(missing_ok=True)
        slow.touch()
        try:
            yield SimpleNamespace(next=next_sleeper, end=lambda: slow.unlink(missing_ok=True))
        finally:
            slow.unlink(missing_ok=True)
            sign.unlink(missing_ok=True)

    return sleeping
