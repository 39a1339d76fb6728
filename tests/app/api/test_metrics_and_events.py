import json
import threading
import time

import pytest

from app.store.attempts import finish, heartbeat
from app.store.reports import record_event
from app.store.states import Status


def stream(api, job, **headers):
    """Reads an event stream to its end: (id, type, data) of each event."""
    found, fields = [], {}
    address = f"/v1/jobs/{job}/events"
    with api.stream("GET", address, headers={"Accept": "text/event-stream", **headers}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


def test_epochs_come_in_order_and_after_the_asked_one(api, hold, write_epoch):
    held = hold()
    for number in (1, 2, 3):
        write_epoch(held, number)
    address = f"/v1/jobs/{held.job_id}/metrics"
    page = api.get(address).json()
    assert [epoch["global_epoch"] for epoch in page["data"]] == [1, 2, 3]
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", "1", "3", False)
    assert [e["global_epoch"] for e in api.get(address, params={"after_epoch": 2}).json()["data"]] == [3]
    assert api.get(address, params={"after_epoch": 3}).json()["data"] == []
    epoch = page["data"][0]
    assert epoch["object"] == "fine_tuning.job.epoch"
    assert (epoch["stage"], epoch["stage_index"], epoch["epoch"], epoch["attempt"]) == ("head", 0, 1, 1)
    assert epoch["lr"] == {"default": 0.01}
    assert epoch["train"] == {"loss": 0.5, "accuracy": 0.75}
    assert set(epoch["seconds"]) == {"data", "train", "val", "checkpoint"}
    assert not epoch["nonfinite"]
    assert abs(epoch["created_at"] - time.time()) < 60


def test_loss_that_is_not_finite_is_null_and_says_so(api, hold, write_epoch):
    held = hold()
    write_epoch(held, 1, train={"loss": None, "accuracy": 0.5}, nonfinite=True)
    (epoch,) = api.get(f"/v1/jobs/{held.job_id}/metrics").json()["data"]
    assert (epoch["train"]["loss"], epoch["nonfinite"]) == (None, True)


@pytest.mark.parametrize("after", ["-1", "one", "1.5", "9" * 30, "9" * 5000])
def test_wrong_epoch_is_invalid(api, post, after):
    response = api.get(f"/v1/jobs/{post()['id']}/metrics", params={"after_epoch": after})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "after_epoch"


def test_events_come_in_pages_oldest_first(api, hold, store):
    held = hold()
    for number in range(5):
        record_event(store, held, 600, "job.note", f"note {number}", "warning", {"number": number})
    address = f"/v1/jobs/{held.job_id}/events"
    everything = api.get(address).json()
    assert [event["type"] for event in everything["data"]] == ["job.created", "job.running"] + [
        "job.note"
    ] * 5
    last = everything["data"][-1]
    assert (last["object"], last["level"], last["message"]) == ("fine_tuning.job.event", "warning", "note 4")
    assert last["data"] == {"attempt": 1, "number": 4}
    first = api.get(address, params={"limit": 3}).json()
    assert first["has_more"]
    rest = api.get(address, params={"after": first["last_id"]}).json()
    assert not rest["has_more"]
    assert first["data"] + rest["data"] == everything["data"]
    known = [event["id"] for event in everything["data"]]
    assert known == sorted(set(known))


@pytest.mark.parametrize(
    "params", [{"after": -1}, {"after": "x"}, {"after": 2**63}, {"limit": 0}, {"limit": 1001}]
)
def test_wrong_event_parameters_are_invalid(api, post, params):
    response = api.get(f"/v1/jobs/{post()['id']}/events", params=params)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == next(iter(params))


def test_stream_tells_what_happens_and_ends_with_the_job(api, hold, store):
    held = hold()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(stream(api, held.job_id)))
    reader.start()
    try:
        record_event(store, held, 600, "job.note", "ä\nb", data={"n": 1})
        time.sleep(0.7)  # past one look of the stream, so that the end comes in a later one
        assert reader.is_alive()
        finish(store, held, Status.SUCCEEDED, "all stages are done")
    finally:
        reader.join(10)
    assert not reader.is_alive(), "the stream goes on after the job's end"
    assert [kind for _, kind, _ in seen] == ["job.created", "job.running", "job.note", "job.succeeded"]
    listed = api.get(f"/v1/jobs/{held.job_id}/events").json()["data"]
    assert [data for _, _, data in seen] == listed
    assert [number for number, _, _ in seen] == [event["id"] for event in listed]


@pytest.mark.promise("Every stream gives each event of its job once and in order, whenever it begins")
def test_stream_goes_on_after_the_last_event_that_was_seen(api, post):
    job = post()["id"]
    for call in ("pause", "resume", "cancel"):
        api.post(f"/v1/jobs/{job}/{call}")
    whole = stream(api, job)
    assert [kind for _, kind, _ in whole] == ["job.created", "job.paused", "job.queued", "job.cancelled"]
    assert stream(api, job, **{"Last-Event-ID": str(whole[1][0])}) == whole[2:]
    assert stream(api, job, **{"Last-Event-ID": str(whole[-1][0])}) == []


@pytest.mark.promise("Every stream gives each event of its job once and in order, whenever it begins")
def test_stream_of_more_events_than_a_page_loses_none(api, hold, store):
    held = hold()
    for number in range(230):
        record_event(store, held, 600, "job.note", str(number))
    finish(store, held, Status.SUCCEEDED, "done")
    notes = [data["message"] for _, kind, data in stream(api, held.job_id) if kind == "job.note"]
    assert notes == [str(number) for number in range(230)]


@pytest.mark.parametrize("given", ["x", "-1", "1.0", "9" * 19, "9" * 5000, "\u00b2"])
def test_wrong_last_event_id_is_invalid(api, post, given):
    headers = {"Accept": b"text/event-stream", "Last-Event-ID": given.encode("latin-1")}
    response = api.get(f"/v1/jobs/{post()['id']}/events", headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "Last-Event-ID"


def test_stream_of_an_unknown_job_is_not_found(api):
    response = api.get("/v1/jobs/job_none/events", headers={"Accept": "text/event-stream"})
    assert response.status_code == 404


def test_deleting_a_job_ends_its_stream(api, post):
    job = post()["id"]
    api.post(f"/v1/jobs/{job}/cancel")
    api.delete(f"/v1/jobs/{job}")
    assert api.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}).status_code == 404


def test_heartbeats_are_no_events(api, hold, store):
    held = hold()
    before = api.get(f"/v1/jobs/{held.job_id}/events").json()
    heartbeat(store, held, 600)
    assert api.get(f"/v1/jobs/{held.job_id}/events").json() == before
