import signal
import sqlite3
import sys

import httpx
import pytest


@pytest.fixture(scope="module")
def bare(make_house):
    """A server whose database has no tables."""
    house = make_house()
    for file in house.home.iterdir():
        file.unlink()
    house.start("server", sys.executable, "-m", "app", "serve")
    with httpx.Client(base_url=house.url, trust_env=False) as client:
        yield client


def test_server_is_alive_and_ready(api):
    assert (api.get("/healthz").status_code, api.get("/healthz").json()) == (200, {"status": "alive"})
    assert (api.get("/readyz").status_code, api.get("/readyz").json()) == (200, {"status": "ready"})


def test_prometheus_reads_jobs_and_requests(api, post):
    def paused():
        lines = api.get("/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith('thaw_jobs{status="paused"}')]
        return float(line.split()[-1])

    before = paused()
    api.post(f"/v1/jobs/{post()['id']}/pause")
    assert paused() == before + 1
    text = api.get("/metrics").text
    assert 'thaw_http_requests_total{method="POST",route="/v1/jobs/{job_id}/pause",status="200"}' in text
    assert 'thaw_http_request_seconds_count{route="/v1/jobs"}' in text
    assert api.get("/metrics").headers["Content-Type"].startswith("text/plain")


def test_unknown_addresses_are_one_row_for_prometheus(api):
    for number in range(3):
        api.get(f"/nowhere/{number}")
    text = api.get("/metrics").text
    assert "nowhere" not in text
    assert 'route="unknown",status="404"' in text


def test_server_without_tables_is_alive_and_unavailable(bare, until):
    def answers(address):
        try:
            return bare.get(address)
        except httpx.TransportError:
            return None

    assert until(lambda: answers("/healthz"), 30, "the server answers").status_code == 200
    ready = bare.get("/readyz")
    assert ready.status_code == 503
    assert "thaw up" in ready.json()["error"]["message"]
    for address in ("/v1/jobs", "/v1/jobs/job_1", "/v1/jobs/job_1/events"):
        response = bare.get(address)
        assert response.status_code == 503
        assert response.json()["error"] == {
            "message": "the database is not of this version: run `thaw up`, or `python -m app migrate`",
            "type": "server_error",
            "param": None,
            "code": "unavailable",
            "details": [],
        }
        assert response.headers["Retry-After"] == "5"
        assert response.headers["X-Request-ID"]


def test_readers_are_answered_while_somebody_writes(api, house, post):
    job = post()["id"]
    writer = sqlite3.connect(house.home / "thaw.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        for address in ("/readyz", "/v1/jobs", f"/v1/jobs/{job}"):
            assert api.get(address, timeout=5).status_code == 200
    finally:
        writer.close()


# A backbone whose import waits for a file.
SLOW = """
import time
from pathlib import Path
while not Path("go").exists():
    time.sleep(0.02)
raise RuntimeError("slow and broken")
"""


def test_server_answers_while_the_backbones_are_loaded_and_names_those_that_fail(make_house, proc, until):
    house = make_house(backbones="slow_net:backbone")
    (house.root / "slow_net.py").write_text(SLOW)
    server = house.serve()
    for address in ("/readyz", "/v1/jobs", "/v1/datasets", "/openapi.json", "/"):
        assert httpx.get(f"{house.url}{address}", trust_env=False).status_code == 200
    until(lambda: proc.has_torch(server.pid), 60, "torch is loaded without being asked for")
    assert "slow_net" not in house.log("server")
    (house.root / "go").touch()
    until(lambda: "slow and broken" in house.log("server"), 30, "the server names the backbone")
    assert "slow_net:backbone" in house.log("server")


def test_server_that_ends_while_torch_is_being_loaded_ends_well(make_house):
    house = make_house()
    server = house.serve()
    server.terminate()
    assert server.wait(30) == -signal.SIGTERM  # as uvicorn ends, and not by a crash
