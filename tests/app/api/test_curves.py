"""Curves of many jobs in one call."""

from app.store.attempts import finish
from app.store.states import Status


def test_curve_is_the_metric_that_chooses_the_best_by_epoch(api, hold, write_epoch, store):
    held, other = hold(), hold()
    for number, value in enumerate((0.5, 0.75, 0.7), 1):
        write_epoch(held, number, value=value, best=value > 0.6)
    ids = [held.job_id, other.job_id, "job_x"]
    answer = api.get("/v1/curves", params={"job": ids})
    curves = {curve["id"]: curve for curve in answer.json()["data"]}
    assert set(curves) == {held.job_id, other.job_id}
    assert curves[held.job_id]["metric"] == "val_accuracy"
    assert curves[held.job_id]["goal"] == "max"
    assert curves[held.job_id]["points"] == [[1, 0.5], [2, 0.75], [3, 0.7]]
    assert curves[other.job_id] == {
        "object": "job.curve",
        "id": other.job_id,
        "metric": None,
        "goal": None,
        "points": [],
    }
    same = api.get("/v1/curves", params={"job": ids}, headers={"If-None-Match": answer.headers["ETag"]})
    assert same.status_code == 304
    for one in (held, other):
        finish(store, one, Status.SUCCEEDED, "done")


def test_long_curve_is_thinned_and_keeps_its_ends(api, hold, write_epoch, store):
    held = hold()
    for number in range(1, 31):
        write_epoch(held, number, value=number / 100)
    for points in (2, 3, 7, 29, 30, 1000):
        (curve,) = api.get("/v1/curves", params={"job": held.job_id, "points": points}).json()["data"]
        epochs = [epoch for epoch, _ in curve["points"]]
        assert len(epochs) <= points
        assert (epochs[0], epochs[-1]) == (1, 30)
        assert epochs == sorted(set(epochs))
        assert all(value == epoch / 100 for epoch, value in curve["points"])
    finish(store, held, Status.SUCCEEDED, "done")


def test_value_that_is_not_finite_is_null(api, hold, write_epoch, store):
    held = hold()
    write_epoch(held, 1, value=0.5)
    write_epoch(held, 2, val={"loss": None, "accuracy": None}, best=False, nonfinite=True)
    (curve,) = api.get("/v1/curves", params={"job": held.job_id}).json()["data"]
    assert curve["points"] == [[1, 0.5], [2, None]]
    finish(store, held, Status.SUCCEEDED, "done")


def test_number_of_jobs_and_points_is_bounded(api):
    assert api.get("/v1/curves", params={"job": [f"job_{n}" for n in range(101)]}).status_code == 422
    for points in (1, 1001):
        assert api.get("/v1/curves", params={"job": "job_x", "points": points}).status_code == 422
    assert api.get("/v1/curves").json()["data"] == []
    assert api.get("/v1/curves", params={"job": "job\x00x"}).json()["data"] == []


def test_another_owner_s_curve_is_left_out(holder, owner):
    mine, other = holder("submit", owner("zoo")), holder("submit", owner("farm"))
    job = mine.submit()
    assert [one["id"] for one in mine.http.get("/v1/curves", params={"job": job}).json()["data"]] == [job]
    assert other.http.get("/v1/curves", params={"job": job}).json()["data"] == []
