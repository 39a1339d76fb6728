import io
import os
import zipfile

import pytest

from app.store import uploads
from app.store.attempts import claim, finish
from app.store.checkpoints import list_checkpoints
from app.store.records import NewCheckpoint
from app.store.reports import record_epoch
from app.store.states import Status
from tests.app.guarded import OWNER_BYTES, OWNER_JOBS, SPEC, experiment


@pytest.fixture
def zoo(holder, owner):
    return holder("submit", owner("zoo"))


def _refused(response, status, code, *words):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    for word in words:
        assert word in error["message"]


def test_an_owner_has_no_more_jobs_waiting_than_the_quota(zoo, holder, owner):
    other_key = holder("submit", zoo.row.owner)
    headers = {"Idempotency-Key": "first"}
    first = zoo.http.post("/v1/jobs", json=SPEC, headers=headers).json()["id"]
    zoo.http.post(f"/v1/jobs/{first}/pause")
    for number in range(OWNER_JOBS - 1):
        (zoo, other_key)[number % 2].submit()
    for path, body in (("/v1/jobs", SPEC), ("/v1/jobs/find-lr", SPEC), ("/v1/experiments", experiment(0))):
        said = f"{OWNER_JOBS} jobs of {zoo.row.owner} are queued or paused, and {OWNER_JOBS} may be"
        _refused(zoo.http.post(path, json=body), 429, "quota_jobs", said, "THAW_OWNER_JOBS", "cancel some")
    assert zoo.http.post("/v1/jobs", json=SPEC, headers=headers).json()["id"] == first
    assert holder("submit", owner("farm")).submit()
    holder("admin", zoo.row.owner).submit()
    job = zoo.http.get("/v1/jobs").json()["data"][0]["id"]
    for one in (job, first):
        zoo.http.post(f"/v1/jobs/{one}/cancel")
    zoo.submit()
    _refused(zoo.http.post(f"/v1/jobs/{first}/retry"), 429, "quota_jobs")


def test_an_experiment_is_refused_as_a_whole(zoo):
    zoo.submit()
    refused = zoo.http.post("/v1/experiments", json=experiment(0, 1, 2))
    _refused(refused, 429, "quota_jobs", "1 jobs of")
    assert zoo.http.get("/v1/experiments").json()["data"] == []
    assert len(zoo.http.get("/v1/jobs").json()["data"]) == 1
    assert zoo.compare(0, 1)


@pytest.fixture
def full(guarded, zoo):
    """An owner with a job that has stored as much as an owner may; gives the job's id."""
    job = zoo.submit(priority=1000)
    held = claim(guarded.db, "a worker", 600)
    assert held is not None
    assert held.job_id == job
    place = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
    path = guarded.artifacts / job / "w.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    record_epoch(guarded.db, held, 600, place, NewCheckpoint(f"{job}/w.safetensors", OWNER_BYTES, "ab" * 32))
    finish(guarded.db, held, Status.SUCCEEDED, "done")
    return job


def test_an_owner_who_has_stored_too_much_gets_no_new_jobs_exports_or_uploads(zoo, full, guarded, holder):
    said = f"{zoo.row.owner} may have {OWNER_BYTES:,} bytes stored here"
    for path, body in (("/v1/jobs", SPEC), ("/v1/experiments", experiment(0))):
        refused = zoo.http.post(path, json=body)
        _refused(refused, 429, "quota_bytes", said, "THAW_OWNER_BYTES", "delete jobs")
    (checkpoint,) = list_checkpoints(guarded.db, full)
    export = f"/v1/jobs/{full}/checkpoints/{checkpoint.id}/download?format=onnx"
    _refused(zoo.http.get(export), 429, "quota_bytes", said)
    _refused(_send(zoo, "full"), 413, "quota_bytes", said)
    assert not (guarded.data / "full").exists()
    assert zoo.http.get(f"/v1/jobs/{full}/checkpoints/{checkpoint.id}/download").status_code == 200
    assert zoo.http.delete(f"/v1/jobs/{full}").status_code == 204
    zoo.submit()


def test_admins_have_no_quota(zoo, full, holder):
    admin = holder("admin", zoo.row.owner)
    for _ in range(OWNER_JOBS + 1):
        admin.submit()


def _archive(size):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name in ("ants", "bees"):
            for number in range(2):
                opened.writestr(f"{name}/{number}.png", os.urandom(size // 4))
    return content.getvalue()


def _send(holder, name, size=1000, **params):
    return holder.http.put(f"/v1/datasets/{name}", content=_archive(size), params=params)


def test_uploads_of_an_owner_have_no_more_bytes_together_than_the_quota(zoo, guarded, owner):
    first, second = owner("first"), owner("second")
    assert _send(zoo, first, 60_000).status_code == 201
    found = uploads.get_upload(guarded.db, first)
    assert found is not None
    assert (found.owner, found.size) == (zoo.row.owner, 60_000)
    _refused(_send(zoo, second, 60_000), 413, "quota_bytes")
    assert not (guarded.data / second).exists()
    assert uploads.get_upload(guarded.db, second) is None
    assert _send(zoo, second, 30_000).status_code == 201
    # What is about to go counts no more.
    assert _send(zoo, first, 68_000, replace="true").status_code == 200
    _refused(_send(zoo, first, 72_000, replace="true"), 413, "quota_bytes")
    found = uploads.get_upload(guarded.db, first)
    assert found is not None
    assert found.size == 68_000


def test_an_archive_that_unpacks_to_more_than_is_left_is_refused(zoo, guarded, owner):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("ants/1.bmp", bytes(OWNER_BYTES + 1))
    assert len(content.getvalue()) < 10_000
    refused = zoo.http.put(f"/v1/datasets/{owner('flat')}", content=content.getvalue())
    _refused(refused, 413, "quota_bytes")
    assert [one for one in guarded.data.iterdir() if owner("flat") in one.name] == []
    assert uploads.get_upload(guarded.db, owner("flat")) is None
