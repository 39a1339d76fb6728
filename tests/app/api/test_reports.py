import hashlib
import json

import pytest
from pydantic import TypeAdapter

from app.api.report_examples import REPORT
from app.store.attempts import finish
from app.store.controls import cancel_job
from app.store.job_reports import record_report
from app.store.records import JobError, NewReport
from app.store.states import Status
from finetune.report.fields import Report

PREDICTIONS = bytes(range(256)) * 100


@pytest.fixture
def reported(hold, write_epoch, store, house):
    """A job that has succeeded, with a report; gives its hold and its checkpoint."""
    held = hold()
    checkpoint = write_epoch(held, 1)
    write_report(held, checkpoint, store, house)
    finish(store, held, Status.SUCCEEDED, "all stages are done")
    return held, checkpoint


def write_report(held, checkpoint, store, house):
    folder = house.artifacts / held.job_id / f"attempt-{held.attempt}"
    text = json.dumps(REPORT).encode()
    (folder / "report.json").write_bytes(text)
    (folder / "predictions.parquet").write_bytes(PREDICTIONS)
    report, predictions = (
        (folder / name).relative_to(house.artifacts).as_posix()
        for name in ("report.json", "predictions.parquet")
    )
    digests = (hashlib.sha256(content).hexdigest() for content in (text, PREDICTIONS))
    new = NewReport(
        checkpoint.path, report, len(text), next(digests), predictions, len(PREDICTIONS), next(digests)
    )
    record_report(store, held, 600, new, "ready", {})


@pytest.fixture
def address(reported):
    return f"/v1/jobs/{reported[0].job_id}/report"


def test_the_report_is_the_file_with_its_hash_as_etag(api, address):
    response = api.get(address)
    assert response.status_code == 200
    assert response.json() == REPORT
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["ETag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert response.headers["Content-Disposition"].startswith("inline; ")
    again = api.get(address, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = api.head(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(response.content))


def test_predictions_are_served_in_parts_as_checkpoints_are(api, address, reported):
    whole = api.get(f"{address}/predictions")
    etag = f'"{hashlib.sha256(PREDICTIONS).hexdigest()}"'
    assert (whole.status_code, whole.content, whole.headers["ETag"]) == (200, PREDICTIONS, etag)
    assert whole.headers["Content-Type"] == "application/vnd.apache.parquet"
    name = f"{reported[0].job_id}-predictions.parquet"
    assert whole.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    part = api.get(f"{address}/predictions", headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.content) == (206, PREDICTIONS[10:20])
    behind = api.get(f"{address}/predictions", headers={"Range": "bytes=999999-"})
    assert behind.status_code == 416
    assert api.get(f"{address}/predictions", headers={"If-None-Match": etag}).status_code == 304
    assert api.head(f"{address}/predictions").headers["Content-Length"] == str(len(PREDICTIONS))


def refused(api, job, reason):
    for tail in ("", "/predictions"):
        response = api.get(f"/v1/jobs/{job}/report{tail}")
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["code"] == "no_report"
        assert error["message"] == f"job {job} has no report: {reason}"


def test_a_job_that_has_not_ended_says_when_its_report_is_made(api, post, hold):
    refused(api, post()["id"], "it is queued, and a report is made when all stages are done")
    refused(api, hold().job_id, "it is running, and a report is made when all stages are done")


def test_a_range_test_says_that_it_trains_nothing(api, post):
    job = post(range_test={})["id"]
    refused(api, job, "it looks for a learning rate and trains nothing; its result has the curve")


def test_a_job_that_ended_without_a_report_says_why(api, hold, store):
    held = hold()
    error = JobError("not_reproduced", "the best checkpoint is gone")
    finish(store, held, Status.FAILED, "the best checkpoint is gone", error=error)
    refused(api, held.job_id, "it failed (not_reproduced) before one was made")
    held = hold()
    cancel_job(store, held.job_id)
    finish(store, held, Status.CANCELLED, "cancelled by a client")
    refused(api, held.job_id, "it was cancelled before one was made")
    held = hold()
    finish(store, held, Status.SUCCEEDED, "all stages are done")
    refused(api, held.job_id, "it ended before Thaw made reports; run its spec again to get one")


def test_an_unknown_job_has_no_report_either(api):
    for tail in ("", "/predictions"):
        response = api.get(f"/v1/jobs/job_0/report{tail}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_files_that_are_gone_are_not_found(api, address, reported, house):
    for file in (house.artifacts / reported[0].job_id).rglob("*.*"):
        file.unlink()
    for tail in ("", "/predictions"):
        response = api.get(f"{address}{tail}")
        assert response.status_code == 404
        assert response.json()["error"] | {"details": []} == {
            "message": "the file of the report is gone",
            "type": "invalid_request_error",
            "param": None,
            "code": "no_report",
            "details": [],
        }


def test_a_deleted_job_leaves_no_report_and_no_file(api, address, reported, house):
    job = reported[0].job_id
    assert api.delete(f"/v1/jobs/{job}").status_code == 204
    assert api.get(address).json()["error"]["code"] == "not_found"
    assert not (house.artifacts / job).exists()


def test_the_example_is_a_sound_report(api):
    TypeAdapter(Report).validate_python(REPORT)
    page = api.get("/openapi.json").json()
    answer = page["paths"]["/v1/jobs/{job_id}/report"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["example"] == REPORT
    fields = page["components"]["schemas"]["OneLabelReport"]["properties"]
    assert set(fields) == set(REPORT)
    assert {"SeveralLabelsReport", "EmbeddingReport"} <= set(page["components"]["schemas"])
