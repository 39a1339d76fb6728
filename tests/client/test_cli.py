import json
import re
import signal
import time

import pytest

SPEC = {"dataset": {"path": "hymenoptera"}}


@pytest.fixture
def ended(api, make_job, make_epoch):
    """Lets the server have a job that has ended so."""

    def play(status, **fields):
        api.on("POST", "/v1/jobs", api.Reply(make_job("queued"), 201))
        api.on("GET", "/v1/jobs/job_1", make_job(status, **fields))
        api.on("GET", "/v1/jobs/job_1/metrics", api.page(make_epoch(1)))
        api.on("GET", "/v1/jobs/job_1/events", api.page())

    return play


@pytest.fixture
def stand_ins(tmp_path):
    """A folder with packages that stand in for the server and the worker, and note what they are run with."""
    code = """
import os, sys, time
os.write(1, f"{__package__} {' '.join(sys.argv[1:])}".strip().encode() + b"\\n")
if sys.argv[1:] not in (["migrate"], ["prepare"]):
    time.sleep(60 if __package__ == "app" or not os.environ.get("WORKER_DIES") else 0)
    sys.exit(7)
"""
    for package in ("app", "worker"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "__main__.py").write_text(code)
    return tmp_path


def lines_of(process, count):
    return sorted(process.stdout.readline() for _ in range(count))


def test_up_prepares_and_runs_server_and_worker_until_ctrl_c(start, stand_ins):
    process = start("up", modules=stand_ins)
    assert process.stdout.readline() == "app prepare\n"
    assert lines_of(process, 2) == ["app serve\n", "worker\n"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_up_fails_with_the_service_that_dies(start, stand_ins, monkeypatch):
    monkeypatch.setenv("WORKER_DIES", "1")
    process = start("up", modules=stand_ins)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (
        1,
        "thaw: the worker ended with exit code 7; everything is stopped\n",
    )


def test_serve_migrates_and_becomes_the_server(start, stand_ins):
    process = start("serve", modules=stand_ins)
    assert [process.stdout.readline() for _ in range(2)] == ["app migrate\n", "app serve\n"]
    process.terminate()
    assert process.wait(timeout=20) == -signal.SIGTERM


def test_worker_becomes_the_worker(start, stand_ins, monkeypatch):
    monkeypatch.setenv("WORKER_DIES", "1")
    process = start("worker", modules=stand_ins)
    stdout, _ = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (7, "worker\n")


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["doctor"], "app doctor"),
        (["doctor", "--json"], "app doctor --json"),
        (["backup", "copy.db"], "app backup copy.db"),
        (["backup", "copy.db", "--artifacts", "kept"], "app backup copy.db --artifacts kept"),
    ],
)
def test_an_operators_commands_become_the_servers_own(start, stand_ins, given, run):
    process = start(*given, modules=stand_ins)
    assert process.stdout.readline() == f"{run}\n"


def test_submit_prints_the_id_alone(api, thaw, make_job, spec):
    api.on("POST", "/v1/jobs", api.Reply(make_job("queued"), 201))
    result = thaw("submit", spec, "--idempotency-key", "k1")
    assert (result.exit_code, result.stdout) == (0, "job_1\n")
    assert api.requests[0].json == SPEC
    assert api.requests[0].headers["idempotency-key"] == "k1"


def test_submit_reads_standard_input(api, thaw, make_job):
    api.on("POST", "/v1/jobs", api.Reply(make_job("queued"), 201))
    assert thaw("submit", "-", input="dataset: {path: hymenoptera}\n").exit_code == 0
    assert api.requests[0].json == SPEC


def test_submit_can_watch(thaw, ended, spec):
    ended("succeeded")
    result = thaw("submit", spec, "--watch")
    assert result.exit_code == 0
    first, epoch, last = result.stdout.splitlines()
    assert (first, epoch[:12], last[:15]) == ("job_1", "head epoch 1", "job_1 succeeded")


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 3)])
def test_watch_ends_with_the_jobs_end(thaw, ended, status, code):
    ended(status, error={"code": "nonfinite_loss", "message": "stage head, epoch 2"} if code == 1 else None)
    result = thaw("watch", "job_1")
    assert result.exit_code == code
    assert status in result.stdout.splitlines()[-1]
    assert ("nonfinite_loss: stage head, epoch 2" in result.stdout) == (code == 1)


def test_ctrl_c_leaves_a_watched_job_running(api, start, make_job):
    api.on("GET", "/v1/jobs/job_1", make_job())
    api.on("GET", "/v1/jobs/job_1/metrics", api.page())
    api.on("GET", "/v1/jobs/job_1/events", api.page())
    process = start("watch", "job_1")
    while len(api.requests) < 6:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "job_1 goes on; `thaw watch job_1` follows it again\n")
    assert {request.method for request in api.requests} == {"GET"}


def test_refused_input_has_a_line_per_detail_and_exit_code_2(api, start, spec):
    details = [
        {"param": "stages.0.lr", "message": "is required", "code": "missing"},
        {"param": "batch_size", "message": "should be greater than 0", "code": "greater_than"},
    ]
    api.on("POST", "/v1/jobs", api.refusal(422, "the spec has 2 problems", details=details))
    process = start("submit", spec)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.splitlines() == [
        "thaw: the spec has 2 problems",
        "stages.0.lr: is required",
        "batch_size: should be greater than 0",
    ]


def test_a_file_that_is_no_spec_never_reaches_the_server(api, thaw, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("name: x\nlr: .nan\n")
    result = thaw("submit", str(path))
    assert (result.exit_code, result.stderr) == (2, f"thaw: {path}, line 2: .nan is no finite number\n")
    assert api.requests == []


def test_nobody_there_is_exit_code_4_and_one_line(thaw, nobody):
    result = thaw("jobs", url=nobody)
    assert result.exit_code == 4
    assert re.fullmatch(
        rf"thaw: no Thaw server at {nobody}; start one with `thaw up` \(.*\)\n", result.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["jobs", "--limit", "0"], 2), (["jobs", "--colour"], 2), (["unknown"], 2), (["status", "job_9"], 1)],
)
def test_wrong_usage_is_exit_code_2_and_what_is_not_there_1(start, arguments, code):
    process = start(*arguments)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert stderr


def test_a_wrong_address_is_wrong_usage(thaw):
    result = thaw("jobs", url="localhost:8321")
    assert (result.exit_code, result.stderr.startswith("thaw: 'localhost:8321' is no address")) == (2, True)


def test_a_plan_is_shown_as_tables_or_as_it_was_sent(api, thaw, spec, plan_answer):
    api.on("POST", "/v1/jobs/plan", plan_answer)
    assert "1-3     0.1" in thaw("plan", spec).stdout
    assert json.loads(thaw("plan", spec, "--json").stdout) == plan_answer


def test_jobs_are_listed(api, thaw, make_job):
    page = api.page(make_job(), make_job("queued", id="job_2"), has_more=True)
    api.on("GET", "/v1/jobs", page)
    result = thaw("jobs", "--status", "running", "--limit", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["job", "job_1", "job_2"]
    assert result.stderr == "there are older jobs; --limit shows more\n"
    assert api.requests[0].query == {"status": ["running"], "limit": ["2"]}
    assert json.loads(thaw("jobs", "--json").stdout) == page


def test_one_jobs_parts_are_shown(api, thaw, make_job, make_epoch, make_event):
    api.on("GET", "/v1/jobs/job_1", make_job())
    api.on("GET", "/v1/jobs/job_1/metrics", api.page(make_epoch(1), make_epoch(2)))
    api.on("GET", "/v1/jobs/job_1/events", api.page(make_event(1)))
    assert "ants" in thaw("status", "job_1").stdout
    assert json.loads(thaw("status", "job_1", "--json").stdout) == make_job()
    assert len(thaw("metrics", "job_1").stdout.splitlines()) == 3
    assert json.loads(thaw("metrics", "job_1", "--json").stdout) == [make_epoch(1), make_epoch(2)]
    assert "something happened" in thaw("events", "job_1").stdout
    assert json.loads(thaw("events", "job_1", "--json").stdout) == [make_event(1)]


def test_events_can_be_followed(api, thaw, make_job, make_event):
    body = f"data: {json.dumps(make_event(1))}\n\n".encode()
    stream = api.Reply(body, headers={"Content-Type": "text/event-stream"})
    api.on("GET", "/v1/jobs/job_1/events", stream, api.page(make_event(2)))
    api.on("GET", "/v1/jobs/job_1", make_job("succeeded"))
    lines = thaw("events", "job_1", "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2]


def test_jobs_of_an_experiment_are_listed(api, thaw, make_job):
    api.on("GET", "/v1/jobs", api.page(make_job()))
    assert thaw("jobs", "--experiment", "exp_1").exit_code == 0
    assert api.requests[0].query == {"experiment": ["exp_1"], "limit": ["20"]}


def test_cancel_of_an_experiment_cancels_all_of_it(api, thaw, make_experiment):
    api.on("POST", "/v1/experiments/exp_1/cancel", make_experiment("cancelled"))
    assert thaw("cancel", "exp_1").stdout == "exp_1 cancelled\n"


def test_cancel_prints_the_new_status(api, thaw, make_job):
    api.on("POST", "/v1/jobs/job_1/cancel", make_job("cancelling"))
    assert thaw("cancel", "job_1").stdout == "job_1 cancelling\n"


def test_a_checkpoint_is_downloaded_and_named(api, thaw, tmp_path):
    api.on("GET", "/v1/jobs/job_1/checkpoints/last/download", api.file(b"weights", name="w.safetensors"))
    result = thaw("download", "job_1", "last", "--output", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'w.safetensors'}\n")
    assert (tmp_path / "w.safetensors").read_bytes() == b"weights"


def test_a_file_that_cannot_be_written_is_one_line(api, thaw, tmp_path):
    api.on("GET", "/v1/jobs/job_1/checkpoints/best/download", api.file(b"weights"))
    result = thaw("download", "job_1", "--output", str(tmp_path / "none" / "w.safetensors"))
    assert result.exit_code == 1
    assert result.stderr == f"thaw: {tmp_path / 'none' / 'w.safetensors.part'}: No such file or directory\n"


def test_the_help_tells_the_exit_codes(thaw):
    text = thaw("--help").stdout
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "130 "):
        assert re.search(rf"^ +{code}", text, re.MULTILINE)


def test_a_reader_that_leaves_early_sees_no_traceback(api, start, make_job):
    api.on("GET", "/v1/jobs", api.page(*(make_job(id=f"job_{n}") for n in range(5000))))
    process = start("jobs")
    process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    process.wait(timeout=20)
    process.stdout = None
    assert "Traceback" not in stderr
