import sqlite3

import pytest


@pytest.mark.parametrize("address", ["/nowhere", "/v1", "/v1/job", "/v1/jobs/a/b/c", "/v2/jobs", "/%00"])
def test_address_that_is_none_has_the_shape_of_all_errors(api, address):
    response = api.get(address)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "address"),
    [("PUT", "/v1/jobs"), ("DELETE", "/v1/backbones"), ("POST", "/healthz"), ("GET", "/v1/jobs/x/cancel")],
)
def test_method_that_is_not_taken_has_the_shape_of_all_errors(api, method, address):
    response = api.request(method, address)
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert response.headers["Allow"]


@pytest.mark.parametrize(
    ("address", "methods"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/job_x", "DELETE, GET"),
        ("/v1/jobs/job_x/cancel", "POST"),
        ("/v1/jobs/job_x/checkpoints/best/download", "GET, HEAD"),
        ("/v1/datasets/a/b", "GET, PUT"),
        ("/v1/jobs/plan", "POST"),
    ],
)
def test_all_methods_of_an_address_are_named(api, address, methods):
    assert api.request("PATCH", address).headers["Allow"] == methods


def test_every_answer_has_an_id_of_its_own(api):
    ids = {
        api.get(address).headers["X-Request-ID"]
        for address in ("/healthz", "/healthz", "/nowhere", "/metrics")
    }
    assert len(ids) == 4


def test_broken_answer_is_a_500_in_the_shape_and_its_cause_is_in_the_log_alone(api, house, hold, write_epoch):
    held = hold()
    write_epoch(held, 1)
    database = sqlite3.connect(house.home / "thaw.db")
    with database:
        database.execute("UPDATE epochs SET record = '{}' WHERE job_seq = ?", (held.seq,))
    database.close()
    response = api.get(f"/v1/jobs/{held.job_id}/metrics")
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "internal", None)
    assert response.headers["X-Request-ID"] in error["message"]
    assert "validation" not in response.text.lower()
    assert response.headers["X-Request-ID"] in house.log("server")
    assert "ValidationError" in house.log("server")


def test_request_is_logged_with_its_status(api, house, until):
    def lines():
        return [line for line in house.log("server").splitlines() if "job_to_be_logged" in line]

    api.delete("/v1/jobs/job_to_be_logged")
    (line,) = until(lines, 10, "the request is logged, which is after its answer")
    assert "404" in line
    assert "DELETE" in line
