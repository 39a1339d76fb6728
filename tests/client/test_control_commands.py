import json

import pytest

PATCH = {"stages": [{"epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.001}}}]}


@pytest.fixture
def patch(tmp_path):
    path = tmp_path / "patch.json"
    path.write_text(json.dumps(PATCH))
    return str(path)


@pytest.mark.parametrize(("call", "status"), [("pause", "pausing"), ("resume", "queued")])
def test_pause_and_resume_print_the_new_status(api, thaw, make_job, call, status):
    api.on("POST", f"/v1/jobs/job_1/{call}", make_job(status))
    assert thaw(call, "job_1").stdout == f"job_1 {status}\n"


def test_retry_prints_the_new_id(api, thaw, make_job):
    api.on("POST", "/v1/jobs/job_1/retry", api.Reply(make_job("queued", id="job_2", parent="job_1"), 201))
    assert thaw("retry", "job_1").stdout == "job_2\n"


def test_branch_prints_the_new_id(api, thaw, make_job, patch):
    api.on("POST", "/v1/jobs/job_1/branch", api.Reply(make_job("queued", id="job_2"), 201))
    result = thaw("branch", "job_1", patch, "--checkpoint", "last", "--idempotency-key", "k1")
    assert (result.exit_code, result.stdout) == (0, "job_2\n")
    assert api.requests[0].json == {"checkpoint": "last", "patch": PATCH}
    assert api.requests[0].headers["idempotency-key"] == "k1"


def test_branch_can_be_followed(api, thaw, make_job, make_epoch, patch):
    api.on("POST", "/v1/jobs/job_1/branch", api.Reply(make_job("queued", id="job_2"), 201))
    api.on("GET", "/v1/jobs/job_2", make_job("succeeded", id="job_2"))
    api.on("GET", "/v1/jobs/job_2/metrics", api.page(make_epoch(1)))
    api.on("GET", "/v1/jobs/job_2/events", api.page())
    result = thaw("branch", "job_1", patch, "--watch")
    assert result.exit_code == 0
    assert result.stdout.startswith("job_2\n")
    assert "head epoch 1" in result.stdout


def test_branch_takes_its_patch_from_standard_input(api, thaw, make_job):
    api.on("POST", "/v1/jobs/job_1/branch", api.Reply(make_job("queued", id="job_2"), 201))
    assert thaw("branch", "job_1", "-", input="recipe: {name: joint}\n").exit_code == 0
    assert api.requests[0].json == {"checkpoint": "best", "patch": {"recipe": {"name": "joint"}}}


def test_a_patch_that_is_no_object_is_refused_before_any_request(api, thaw, tmp_path):
    path = tmp_path / "patch.yaml"
    path.write_text("- stages\n")
    result = thaw("branch", "job_1", str(path))
    assert result.exit_code == 2
    assert result.stderr == f"thaw: {path}: a patch is an object with the fields of the spec that differ\n"
    assert api.requests == []


def test_a_branch_that_the_server_refuses_tells_why(api, thaw, patch):
    message = "checkpoint: job job_1 has no checkpoint 'best'"
    api.on("POST", "/v1/jobs/job_1/branch", api.refusal(422, message, "checkpoint"))
    result = thaw("branch", "job_1", patch)
    assert (result.exit_code, result.stderr) == (2, f"thaw: {message}\n")


def test_checkpoints_are_listed_with_what_they_are(api, thaw):
    first = {"id": "ckpt_1", "stage": "head", "epoch": 3, "global_epoch": 3, "size": 3_000_000}
    first |= {"metric": "val_accuracy", "value": 0.75, "best": True, "created_at": 1_700_000_000}
    second = {**first, "id": "ckpt_2", "global_epoch": 4, "value": None, "best": False, "last": True}
    api.on("GET", "/v1/jobs/job_1/checkpoints", api.page(first, second))
    head, *rows = thaw("checkpoints", "job_1").stdout.splitlines()
    assert head.split()[:3] == ["checkpoint", "epoch", "stage"]
    assert rows[0].split()[:3] == ["ckpt_1", "3", "head"]
    assert "val_accuracy 0.7500" in rows[0]
    assert "3.0 MB" in rows[0]
    assert rows[0].endswith("best")
    assert rows[1].endswith("last")
    assert json.loads(thaw("checkpoints", "job_1", "--json").stdout) == [first, second]
