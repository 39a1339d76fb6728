import json
import signal

import pytest

SPEC = {"dataset": {"path": "hymenoptera"}}


@pytest.fixture
def found():
    """A curve of 100 steps that falls, rises and breaks."""
    curve = [
        {"step": n, "lr": 10 ** (-6 + 6 * n / 99), "loss": loss, "smoothed": loss}
        for n in range(100)
        for loss in [2.0 if n < 40 else 2.0 - (n - 40) / 25 if n < 80 else None if n > 96 else 0.4 + n - 80]
    ]
    return {
        "stage": "head",
        "curve": curve,
        "suggestion": curve[66]["lr"],
        "reason": "the loss falls steepest there",
        "diverged_at": curve[97]["lr"],
    }


@pytest.fixture
def ended(api, make_job):
    """Lets the server have a range test that has ended so."""

    def play(status, **fields):
        api.on("POST", "/v1/jobs/find-lr", api.Reply(make_job("queued"), 201))
        api.on("GET", "/v1/jobs/job_1", make_job(status, **fields))
        api.on("GET", "/v1/jobs/job_1/metrics", api.page())
        api.on("GET", "/v1/jobs/job_1/events", api.page())

    return play


def test_the_curve_and_the_suggestion_are_printed(api, thaw, spec, ended, found):
    ended("succeeded", result={"range_test": found})
    result = thaw("find-lr", spec, "--idempotency-key", "k")
    assert result.exit_code == 0
    assert (api.requests[0].json, api.requests[0].headers["idempotency-key"]) == (SPEC, "k")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["lr", "loss", "smoothed"]
    rows = lines[1:26]
    assert rows[0].split()[:3] == ["1e-06", "2.0000", "2.0000"]
    assert [row for row in rows if row.endswith(" <- suggested")] == [rows[16]]
    assert rows[24].split() == ["1", "-", "-"]
    bars = [row.count("#") for row in rows]
    assert max(bars) == 40
    assert bars[10] > bars[16] > bars[19] == 1
    assert lines[27:] == [
        "stage head: try 0.01; the loss diverged at 0.756463",
        "the loss falls steepest there",
    ]


def test_json_is_the_range_test_alone(thaw, spec, ended, found):
    ended("succeeded", result={"range_test": found})
    assert json.loads(thaw("find-lr", spec, "--json").stdout) == found


def test_a_curve_that_suggests_nothing_says_why(thaw, spec, ended):
    point = {"step": 0, "lr": 1e-6, "loss": 2.0, "smoothed": 2.0}
    nothing = {"stage": "head", "curve": [point], "suggestion": None, "reason": "the loss never falls"}
    ended("succeeded", result={"range_test": nothing | {"diverged_at": None}})
    result = thaw("find-lr", spec)
    assert result.stdout.splitlines()[-2:] == ["stage head: no rate is suggested", "the loss never falls"]


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("cancelled", 3)])
def test_a_test_that_found_nothing_ends_with_its_code_and_a_line(thaw, spec, ended, status, code):
    ended(status, error={"code": "dataset_invalid", "message": "no images"} if status == "failed" else None)
    result = thaw("find-lr", spec)
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"job_1 {status}" in result.stderr


def test_a_result_without_a_curve_is_called_unreadable(thaw, spec, ended):
    ended("succeeded", result=None)
    result = thaw("find-lr", spec)
    assert result.exit_code == 1
    assert "did not answer as a Thaw server does" in result.stderr


def test_ctrl_c_leaves_the_job_running(api, start, spec, ended):
    ended("running", status_reason="taken by a worker")
    process = start("find-lr", spec)
    assert process.stderr.readline() == "running: taken by a worker\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "job_1 goes on; `thaw status job_1 --json` has the curve at its end\n"
