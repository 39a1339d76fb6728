import hashlib
import random

import pytest

CONTENT = random.Random(1).randbytes(200_000)  # several chunks of an answer


@pytest.fixture
def saved(hold, write_epoch):
    """A job with two checkpoints, the first of them the best."""
    held = hold()
    best = write_epoch(held, 1, CONTENT, 0.9)
    last = write_epoch(held, 2, CONTENT[::-1], 0.8, best=False)
    return held.job_id, best, last


@pytest.fixture
def address(saved):
    return f"/v1/jobs/{saved[0]}/checkpoints/best/download"


@pytest.fixture
def etag():
    return f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def test_checkpoints_are_listed_with_their_names(api, saved):
    job, best, last = saved
    page = api.get(f"/v1/jobs/{job}/checkpoints").json()
    one, two = page["data"]
    assert (page["first_id"], page["last_id"]) == (best.id, last.id)
    assert (one["id"], one["best"], one["last"], one["value"]) == (best.id, True, False, 0.9)
    assert (two["id"], two["best"], two["last"], two["value"]) == (last.id, False, True, 0.8)
    assert one["object"] == "fine_tuning.job.checkpoint"
    assert (one["job"], one["metric"], one["size"]) == (job, "val_accuracy", len(CONTENT))
    assert one["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert "path" not in one
    assert api.get(f"/v1/jobs/{job}").json()["best"] == {
        "checkpoint": best.id,
        "metric": "val_accuracy",
        "value": 0.9,
    }


def test_job_without_checkpoints_has_an_empty_list(api, post):
    assert api.get(f"/v1/jobs/{post()['id']}/checkpoints").json()["data"] == []


def test_download_is_the_file_under_any_of_its_names(api, saved, etag):
    job, best, last = saved
    for name, content in (
        ("best", CONTENT),
        (best.id, CONTENT),
        ("last", CONTENT[::-1]),
        (last.id, CONTENT[::-1]),
    ):
        response = api.get(f"/v1/jobs/{job}/checkpoints/{name}/download")
        assert response.status_code == 200
        assert response.content == content
        assert response.headers["Content-Length"] == str(len(content))
        assert response.headers["ETag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Type"] == "application/octet-stream"
        epoch = 1 if content is CONTENT else 2
        assert (
            response.headers["Content-Disposition"]
            == f'attachment; filename="{job}-epoch-{epoch}.safetensors"'
        )


def test_head_answers_as_get_without_the_body(api, address):
    got, head = api.get(address), api.head(address)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Accept-Ranges", "Content-Disposition"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("sent", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=199990-", 199_990, 200_000),
        ("bytes=199990-999999999", 199_990, 200_000),
        ("bytes=-10", 199_990, 200_000),
        ("bytes=-999999", 0, 200_000),
        ("bytes=0-", 0, 200_000),
    ],
)
def test_part_is_the_asked_part(api, address, etag, sent, start, stop):
    response = api.get(address, headers={"Range": sent})
    assert response.status_code == 206
    assert response.content == CONTENT[start:stop]
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/200000"
    assert response.headers["Content-Length"] == str(stop - start)
    assert response.headers["ETag"] == etag


@pytest.mark.parametrize("sent", ["bytes=200000-", "bytes=200000-200001", "bytes=999999999999-", "bytes=-0"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_range_behind_the_end_is_not_satisfiable(api, address, method, sent):
    response = api.request(method, address, headers={"Range": sent})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */200000"
    if method == "GET":
        assert response.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "sent",
    [
        "bytes=5-2",
        "lines=1-2",
        "bytes",
        "bytes=",
        "bytes=a-b",
        "bytes=--1",
        "bytes=\u00b2-",
        "bytes=0-1,5-6",
        "=",
        "9" * 5000,
    ],
)
def test_range_that_is_none_or_several_gives_the_whole_file(api, address, sent):
    response = api.get(address, headers={"Range": sent.encode("latin-1")})
    assert response.status_code == 200
    assert response.content == CONTENT


def test_if_range_gives_a_part_of_the_same_file_only(api, address, etag):
    part = api.get(address, headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    whole = api.get(address, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (whole.status_code, whole.content) == (200, CONTENT)
    behind = api.get(address, headers={"Range": "bytes=900000-", "If-Range": '"other"'})
    assert (behind.status_code, behind.content) == (200, CONTENT)


def test_file_that_the_client_has_is_not_sent(api, address, etag):
    for method in ("GET", "HEAD"):
        response = api.request(method, address, headers={"If-None-Match": etag})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", etag)
    assert api.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["ckpt_none", "second", "%00", "%F0%9F%98%80", "..", "%2e%2e", "x" * 5000])
def test_unknown_checkpoint_is_not_found(api, saved, name):
    response = api.get(f"/v1/jobs/{saved[0]}/checkpoints/{name}/download")
    assert response.status_code == 404


def test_checkpoint_of_another_job_is_not_found(api, saved, post):
    response = api.get(f"/v1/jobs/{post()['id']}/checkpoints/{saved[1].id}/download")
    assert response.status_code == 404


def test_job_without_checkpoints_has_no_best_and_no_last(api, post):
    job = post()["id"]
    for name in ("best", "last"):
        response = api.get(f"/v1/jobs/{job}/checkpoints/{name}/download")
        assert response.status_code == 404
        assert name in response.json()["error"]["message"]


def test_file_that_is_gone_is_not_found(api, saved, house):
    job, best, _ = saved
    (house.artifacts / best.path).unlink()
    response = api.get(f"/v1/jobs/{job}/checkpoints/best/download")
    assert response.status_code == 404
    assert "gone" in response.json()["error"]["message"]


def test_weights_of_a_job_need_one_of_its_checkpoints(api, saved, spec):
    def submit(**weights):
        return api.post("/v1/jobs", json=spec(backbone={"name": "tiny_net", "weights": weights}))

    assert submit(job=saved[0], checkpoint="last").status_code == 201
    refused = submit(job=saved[0], checkpoint="ckpt_none")
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "weights_not_found"
