from uuid import uuid4

import pytest

from app.store.attempts import finish, heartbeat, release
from app.store.records import JobError
from app.store.states import Status


def ids(page):
    return [job["id"] for job in page["data"]]


@pytest.fixture
def team():
    """A pair of metadata that no other test's jobs have."""
    return {"team": uuid4().hex}


def test_list_goes_from_the_newest_to_the_oldest_in_pages(api, post, team):
    made = [post(metadata=team)["id"] for _ in range(5)][::-1]
    params = {"metadata[team]": team["team"], "limit": 2}
    first = api.get("/v1/jobs", params=params).json()
    assert (first["object"], ids(first), first["has_more"]) == ("list", made[:2], True)
    assert (first["first_id"], first["last_id"]) == (made[0], made[1])
    second = api.get("/v1/jobs", params={**params, "after": first["last_id"]}).json()
    third = api.get("/v1/jobs", params={**params, "after": second["last_id"]}).json()
    assert ids(second) + ids(third) == made[2:]
    assert not third["has_more"]
    empty = api.get("/v1/jobs", params={**params, "after": made[-1]}).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_list_keeps_what_has_the_status_and_all_pairs(api, post, team):
    one = post(metadata=team | {"animal": "ant", "with space": "ä = ü"})["id"]
    two = post(metadata=team | {"animal": "bee"})["id"]
    api.post(f"/v1/jobs/{two}/pause")

    def listed(**params):
        return ids(api.get("/v1/jobs", params={"metadata[team]": team["team"], **params}).json())

    assert listed() == [two, one]
    assert listed(**{"metadata[animal]": "ant"}) == [one]
    assert listed(**{"metadata[with space]": "ä = ü"}) == [one]
    assert listed(status="paused") == [two]
    assert listed(**{"metadata[animal]": "ant", "status": "paused"}) == []


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"after": "job_none"}, "after"),
        ({"after": ""}, "after"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"status": "sleeping"}, "status"),
        ({"metadata[]": "x"}, "metadata"),
        ({f"metadata[{'k' * 65}]": "x"}, "metadata"),
        ({f"metadata[{n}]": "x" for n in range(17)}, "metadata"),
    ],
)
def test_wrong_parameters_are_named(api, params, param):
    response = api.get("/v1/jobs", params=params)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param


def test_unchanged_job_is_not_sent_twice(api, hold, store):
    held = hold()
    address = f"/v1/jobs/{held.job_id}"
    first = api.get(address)
    etag = first.headers["ETag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = api.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert api.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    progress = {
        "stage": "head",
        "stage_index": 0,
        "stages": 2,
        "epoch": 1,
        "epochs": 3,
        "step": 1,
        "steps": 4,
    }
    heartbeat(store, held, 600, {**progress, "images_per_second": 5.5, "seconds_left": 60.0})
    changed = api.get(address, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.json()["progress"] == {**progress, "images_per_second": 5.5}
    assert changed.json()["estimated_finish"] > changed.json()["started_at"]


def test_heartbeat_alone_changes_no_etag(api, hold, store):
    held = hold()
    etag = api.get(f"/v1/jobs/{held.job_id}").headers["ETag"]
    heartbeat(store, held, 600)
    assert api.get(f"/v1/jobs/{held.job_id}", headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/retry"),
        ("GET", "/metrics"),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
        ("GET", "/checkpoints/best/download"),
    ],
)
@pytest.mark.parametrize("job", ["job_none", "%00", "%F0%9F%98%80", "%ED%A0%80", "x" * 5000])
def test_a_job_that_is_not_there_is_not_found(api, method, address, job):
    response = api.request(method, f"/v1/jobs/{job}{address}")
    assert response.status_code == 404, response.text
    assert response.json()["error"]["code"] == "not_found"


def test_queued_job_is_paused_resumed_and_cancelled_at_once(api, post):
    address = f"/v1/jobs/{post()['id']}"
    assert api.post(f"{address}/pause").json()["status"] == "paused"
    assert api.post(f"{address}/resume").json()["status"] == "queued"
    cancelled = api.post(f"{address}/cancel").json()
    assert (cancelled["status"], cancelled["status_reason"]) == ("cancelled", "cancelled by a client")
    assert cancelled["finished_at"] >= cancelled["created_at"]


def test_running_job_is_asked_to_stop(api, hold, store):
    held = hold()
    address = f"/v1/jobs/{held.job_id}"
    assert api.get(address).json()["worker"] == "a worker"
    assert api.post(f"{address}/pause").json()["status"] == "pausing"
    assert api.post(f"{address}/cancel").json()["status"] == "cancelling"
    assert api.post(f"{address}/pause").status_code == 409
    assert heartbeat(store, held, 600) is Status.CANCELLING
    release(store, held, "stopped")
    assert api.get(address).json()["status"] == "cancelled"


@pytest.mark.parametrize("call", ["cancel", "pause", "resume"])
def test_ended_job_refuses_to_be_controlled(api, post, call):
    address = f"/v1/jobs/{post()['id']}"
    api.post(f"{address}/cancel")
    before = api.get(address).json()
    response = api.post(f"{address}/{call}")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "conflict"
    assert "cancelled" in response.json()["error"]["message"]
    assert api.get(address).json() == before


@pytest.mark.parametrize("call", ["resume", "retry", "delete"])
def test_job_that_waits_is_not_resumed_retried_or_deleted(api, post, call):
    address = f"/v1/jobs/{post()['id']}"
    response = api.delete(address) if call == "delete" else api.post(f"{address}/{call}")
    assert response.status_code == 409
    assert api.get(address).json()["status"] == "queued"


def test_retry_of_a_failed_job_is_a_new_job_with_the_same_spec(api, hold, store):
    held = hold(name="again", metadata={"try": "1"}, max_attempts=2)
    finish(
        store, held, Status.FAILED, "no luck", error=JobError("dataset_invalid", "no luck", "dataset.path")
    )
    old = api.get(f"/v1/jobs/{held.job_id}").json()
    assert old["error"] == {"code": "dataset_invalid", "message": "no luck", "param": "dataset.path"}
    response = api.post(f"/v1/jobs/{held.job_id}/retry")
    assert response.status_code == 201
    new = response.json()
    assert (new["status"], new["parent"], new["attempt"]) == ("queued", old["id"], 0)
    assert new["id"] != old["id"]
    for field in ("spec", "resolved_spec", "name", "metadata", "max_attempts"):
        assert new[field] == old[field]
    api.post(f"/v1/jobs/{new['id']}/cancel")  # or the next test's worker would take it


def test_succeeded_job_is_not_retried(api, hold, store):
    held = hold()
    finish(store, held, Status.SUCCEEDED, "all stages are done", result={"epochs": 5})
    assert api.get(f"/v1/jobs/{held.job_id}").json()["result"] == {"epochs": 5}
    response = api.post(f"/v1/jobs/{held.job_id}/retry")
    assert response.status_code == 409
    assert "succeeded" in response.json()["error"]["message"]


def test_deleted_job_is_gone_with_its_artifacts(api, hold, store, write_epoch, house):
    held = hold()
    write_epoch(held, 1)
    folder = house.artifacts / held.job_id
    assert api.delete(f"/v1/jobs/{held.job_id}").status_code == 409
    assert folder.is_dir()
    finish(store, held, Status.SUCCEEDED, "done")
    response = api.delete(f"/v1/jobs/{held.job_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert not folder.exists()
    assert api.get(f"/v1/jobs/{held.job_id}").status_code == 404
    assert api.delete(f"/v1/jobs/{held.job_id}").status_code == 404


def test_deleted_key_can_be_used_again(api, spec):
    headers = {"Idempotency-Key": uuid4().hex}
    first = api.post("/v1/jobs", json=spec(), headers=headers).json()["id"]
    api.post(f"/v1/jobs/{first}/cancel")
    api.delete(f"/v1/jobs/{first}")
    assert api.post("/v1/jobs", json=spec(), headers=headers).json()["id"] != first
