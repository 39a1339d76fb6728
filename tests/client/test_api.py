import json

import pytest

from client.api import ThawClient
from client.errors import AddressInvalid, AnswerUnreadable, NotFound, Refused, Unreachable


def stream_of(api, *events, **reply):
    body = "".join(f"id: {event['id']}\r\nevent: x\r\ndata: {json.dumps(event)}\r\n\r\n" for event in events)
    return api.Reply(body.encode(), headers={"Content-Type": "text/event-stream; charset=utf-8"}, **reply)


def test_submit_sends_the_spec_and_the_idempotency_key(api, client, make_job):
    api.on("POST", "/v1/jobs", api.Reply(make_job("queued"), 201))
    job = client.submit({"dataset": {"path": "hymenoptera"}}, idempotency_key="k1")
    assert (job.id, job.status, job.ended) == ("job_1", "queued", False)
    assert api.requests[0].json == {"dataset": {"path": "hymenoptera"}}
    assert api.requests[0].headers["idempotency-key"] == "k1"


def test_a_refused_spec_tells_every_detail(api, client):
    details = [{"param": "stages.0.lr", "message": "is required", "code": "missing"}]
    api.on("POST", "/v1/jobs", api.refusal(422, "the spec is not valid", "stages.0.lr", "invalid", details))
    with pytest.raises(Refused) as caught:
        client.submit({})
    error = caught.value
    assert (error.status, error.code, error.param, error.exit_code) == (422, "invalid", "stages.0.lr", 2)
    assert error.lines() == ["the spec is not valid", "stages.0.lr: is required"]


def test_a_refusal_without_details_names_the_field_once(api, client):
    api.on("GET", "/v1/jobs", api.refusal(422, "must be at least 1", "limit"))
    with pytest.raises(Refused) as caught:
        client.jobs()
    assert caught.value.lines() == ["limit: must be at least 1"]


def test_a_conflict_is_no_wrong_input(api, client):
    api.on("POST", "/v1/jobs/job_1/cancel", api.refusal(409, "job_1 has ended", code="conflict"))
    with pytest.raises(Refused) as caught:
        client.cancel("job_1")
    assert caught.value.exit_code == 1


def test_an_unknown_job_is_not_found(api, client):
    with pytest.raises(NotFound):
        client.job("job_9")


def test_a_server_that_is_not_there_is_unreachable(nobody):
    with (
        ThawClient(nobody) as client,
        pytest.raises(Unreachable, match=f"no Thaw server at {nobody}; start one"),
    ):
        client.jobs()


@pytest.mark.parametrize("url", ["127.0.0.1:8321", "ftp://host", "http://", "", "http://[::1"])
def test_what_is_no_http_address_is_refused_before_any_request(url):
    with pytest.raises(AddressInvalid):
        ThawClient(url)


@pytest.mark.parametrize("reply", [b"<html>hello</html>", b"{}", b'{"id": 3, "status": "running"}'])
def test_an_answer_of_another_shape_is_unreadable(api, client, reply):
    api.on("GET", "/v1/jobs/job_1", reply)
    with pytest.raises(AnswerUnreadable, match="did not answer as a Thaw server"):
        client.job("job_1")


@pytest.mark.parametrize("status", [302, 404, 502])
def test_an_error_without_thaws_body_is_unreadable(api, client, status):
    api.on("GET", "/v1/jobs/job_1", api.Reply(b"Bad Gateway", status))
    with pytest.raises(AnswerUnreadable, match=f"status {status}"):
        client.job("job_1")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(api, make_job, nobody, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody)
    api.on("GET", "/v1/jobs/job_1", make_job())
    with ThawClient(api.url) as client:
        assert client.job("job_1").id == "job_1"


def test_fields_of_a_newer_server_are_kept(api, client, make_job):
    answer = make_job(colour="blue")
    api.on("GET", "/v1/jobs/job_1", answer)
    assert client.job("job_1").model_dump(exclude_unset=True) == answer


def test_jobs_are_filtered_by_the_server(api, client, make_job):
    api.on("GET", "/v1/jobs", api.page(make_job(), has_more=True))
    page = client.jobs(after="job_2", limit=1, status="running", metadata={"team": "zoo"})
    assert ([job.id for job in page.data], page.has_more) == (["job_1"], True)
    query = {"after": ["job_2"], "limit": ["1"], "status": ["running"], "metadata[team]": ["zoo"]}
    assert api.requests[0].query == query


def test_an_unchanged_job_is_not_sent_again(api, client, make_job):
    def answer(request):
        unchanged = request.headers.get("if-none-match") == '"a"'
        return api.Reply(status=304) if unchanged else api.Reply(make_job(), headers={"ETag": '"a"'})

    api.on("GET", "/v1/jobs/job_1", answer)
    job, etag = client.job_if_changed("job_1", None)
    assert (job.id, etag) == ("job_1", '"a"')
    assert client.job_if_changed("job_1", etag) is None


def test_metrics_are_read_to_the_last_page(api, client, make_epoch):
    first = api.page(make_epoch(3), make_epoch(4), has_more=True)
    api.on("GET", "/v1/jobs/job_1/metrics", first, api.page(make_epoch(5)))
    assert [record.global_epoch for record in client.metrics("job_1", after_epoch=2)] == [3, 4, 5]
    assert [request.query["after_epoch"] for request in api.requests] == [["2"], ["4"]]


def test_a_loss_that_is_not_finite_is_none(api, client, make_epoch):
    record = make_epoch(1, train={"loss": None, "accuracy": 0.5}, nonfinite=True)
    api.on("GET", "/v1/jobs/job_1/metrics", api.page(record))
    (epoch,) = client.metrics("job_1")
    assert (epoch.train.loss, epoch.nonfinite) == (None, True)


def test_events_end_where_a_server_repeats_a_page(api, client, make_event):
    api.on("GET", "/v1/jobs/job_1/events", api.page(make_event(1), make_event(2), has_more=True))
    assert [event.id for event in client.events("job_1")] == [1, 2]


def test_checkpoints_say_which_is_best(api, client):
    found = [{"id": "ckpt_1", "size": 3, "best": True}, {"id": "ckpt_2", "size": 3, "last": True}]
    api.on("GET", "/v1/jobs/job_1/checkpoints", api.page(*found))
    assert [(item.id, item.best, item.last) for item in client.checkpoints("job_1")] == [
        ("ckpt_1", True, False),
        ("ckpt_2", False, True),
    ]


@pytest.mark.parametrize("call", ["pause", "resume", "retry"])
def test_a_job_is_paused_resumed_and_tried_again(api, client, make_job, call):
    api.on("POST", f"/v1/jobs/job_1/{call}", make_job("queued", id="job_2"))
    assert getattr(client, call)("job_1").id == "job_2"
    assert api.paths() == [f"POST /v1/jobs/job_1/{call}"]


def test_a_branch_sends_its_checkpoint_its_patch_and_its_key(api, client, make_job):
    made = make_job("queued", id="job_2", parent="job_1", branched_from="ckpt_1")
    api.on("POST", "/v1/jobs/job_1/branch", api.Reply(made, 201))
    patch = {"recipe": {"name": "joint"}}
    job = client.branch("job_1", patch, "ckpt_1", idempotency_key="k1")
    assert (job.id, job.parent, job.branched_from) == ("job_2", "job_1", "ckpt_1")
    assert api.requests[0].json == {"checkpoint": "ckpt_1", "patch": patch}
    assert api.requests[0].headers["idempotency-key"] == "k1"


def test_delete_takes_an_answer_without_a_body(api, client):
    api.on("DELETE", "/v1/jobs/job_1", api.Reply(status=204))
    client.delete("job_1")
    assert api.paths() == ["DELETE /v1/jobs/job_1"]


def test_an_id_cannot_lead_to_another_address(api, client):
    with pytest.raises(NotFound):
        client.job("../jobs?limit=1")
    assert api.paths() == ["GET /v1/jobs/..%2Fjobs%3Flimit%3D1"]


def test_a_stream_that_breaks_goes_on_from_its_last_event(api, client, make_job, make_event):
    whole = stream_of(api, make_event(1), make_event(2))
    broken = stream_of(api, make_event(1), make_event(2), cut_after=len(whole.content) - 20)
    rest = stream_of(api, make_event(2), make_event(3))
    api.on("GET", "/v1/jobs/job_1/events", broken, rest, api.page(make_event(4)))
    api.on("GET", "/v1/jobs/job_1", make_job("succeeded"))
    assert [event.id for event in client.stream_events("job_1")] == [1, 2, 3, 4]
    assert [request.headers.get("last-event-id") for request in api.requests[:2]] == [None, "1"]


def test_a_stream_that_ends_before_the_job_is_opened_again(api, client, make_job, make_event):
    streams = [stream_of(api, make_event(1)), stream_of(api), stream_of(api, make_event(2))]
    api.on("GET", "/v1/jobs/job_1/events", *streams, api.page())
    api.on("GET", "/v1/jobs/job_1", make_job(), make_job(), make_job("failed"))
    assert [event.id for event in client.stream_events("job_1")] == [1, 2]


def test_a_stream_gives_up_where_nobody_comes_back(nobody):
    with ThawClient(nobody, retry_pauses=(0.01,)) as client, pytest.raises(Unreachable):
        list(client.stream_events("job_1"))


def test_a_page_in_place_of_a_stream_is_unreadable(api, client):
    api.on("GET", "/v1/jobs/job_1/events", api.page())
    with pytest.raises(AnswerUnreadable, match="no event stream"):
        list(client.stream_events("job_1"))
