"""The real command line in processes of its own, with all that `thaw up` starts."""

import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

THAW = Path(sys.executable).with_name("thaw")


@pytest.fixture(scope="module")
def up(make_house, draw_shapes, until):
    """A house in which `thaw up` was said."""
    house = make_house()
    for file in house.home.iterdir():
        file.unlink()  # a fresh machine: no database
    house.home.rmdir()
    draw_shapes(house.data / "shapes", train=4, val=2)
    house.up = house.start("up", THAW, "up")

    def ready():
        assert house.up.poll() is None, house.log("up")
        try:
            return httpx.get(f"{house.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    until(ready, 60, "the server is ready")
    return house


@pytest.fixture
def write_spec(up, make_spec):
    def write(name="spec.json", **changes):
        path = up.root / name
        path.write_text(json.dumps(make_spec(**changes)))
        return path

    return write


def test_submitted_job_is_watched_to_its_end_and_downloaded(up, write_spec):
    watched = up.run(THAW, "submit", write_spec(), "--watch")
    assert watched.returncode == 0, watched.stderr
    job = watched.stdout.split()[0]
    assert job.startswith("job_")
    assert "succeeded" in watched.stdout
    downloaded = up.run(THAW, "download", job)
    assert downloaded.returncode == 0, downloaded.stderr
    path = up.root / downloaded.stdout.strip()
    assert path.name.startswith(job)
    assert path.suffix == ".safetensors"
    metrics = up.run(THAW, "metrics", job, "--json")
    assert [epoch["global_epoch"] for epoch in json.loads(metrics.stdout)] == list(range(1, 8))
    assert job in up.run(THAW, "jobs").stdout


def test_plan_is_shown_without_a_job(up, write_spec):
    shown = up.run(THAW, "plan", write_spec())
    assert shown.returncode == 0, shown.stderr
    assert "head" in shown.stdout
    assert "0.05" in shown.stdout


def test_cancelled_job_ends_its_watch_with_3(up, write_spec, until):
    spec = write_spec(
        "long.json", backbone={"name": "tiny_slow", "weights": None}, recipe={"name": "joint", "epochs": 500}
    )
    content = json.loads(spec.read_text())
    del content["stages"]
    spec.write_text(json.dumps(content))
    job = up.run(THAW, "submit", spec).stdout.strip()
    watch = up.start("watch", THAW, "watch", job)
    address = f"{up.url}/v1/jobs/{job}/metrics"
    until(lambda: httpx.get(address, trust_env=False).json()["data"], 60, "an epoch has ended")
    cancelled = up.run(THAW, "cancel", job)
    assert (cancelled.returncode, cancelled.stdout.split()[0]) == (0, job)
    assert watch.wait(30) == 3
    again = up.run(THAW, "cancel", job)
    assert again.returncode == 1
    assert "cancelled" in again.stderr


def test_failed_job_ends_its_watch_with_1(up, write_spec):
    watched = up.run(THAW, "submit", write_spec(backbone={"name": "tiny_faulty", "weights": None}), "--watch")
    assert watched.returncode == 1
    assert "cannot go on" in watched.stdout + watched.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["status", "job_none"], 1, "thaw: there is no job job_none"),
        (["submit", "nothing.json"], 2, "nothing.json"),
        (["--url", "http://127.0.0.1:9", "jobs"], 4, "start one with `thaw up`"),
        (["download", "job_none", "best"], 1, "there is no job"),
        (["fly"], 2, "No such command"),
    ],
)
def test_errors_are_a_clear_line_with_an_exit_code(up, arguments, code, text):
    ended = up.run(THAW, *arguments)
    assert ended.returncode == code
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_refused_spec_lists_its_problems(up, write_spec):
    refused = up.run(THAW, "submit", write_spec(dataset={"path": "shape"}, batch_size=0))
    assert refused.returncode == 2
    assert "batch_size" in refused.stderr
    assert "did you mean 'shapes'?" in refused.stderr


def test_ctrl_c_ends_server_and_worker_cleanly_and_the_job_waits(up, write_spec, proc, until):
    """The last of this file: there is nothing left after it."""
    job = up.run(THAW, "submit", write_spec(backbone={"name": "tiny_slow", "weights": None})).stdout.strip()
    address = f"{up.url}/v1/jobs/{job}"
    until(lambda: httpx.get(f"{address}/metrics", trust_env=False).json()["data"], 60, "an epoch has ended")
    family = proc.descendants(up.up.pid)
    assert len(family) >= 4
    up.up.send_signal(signal.SIGINT)
    assert up.up.wait(30) == 0
    until(lambda: not any(proc.alive(pid) for pid in family), 5, "nothing is left of it")
    assert "\nTraceback" not in up.log("up")  # of no process; an attempt's stands within a log line
    up.serve()
    assert httpx.get(address, trust_env=False).json()["status"] == "queued"
