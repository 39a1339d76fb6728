"""Looking for a rate is submitting a job with `range_test`: what the one gives, the other gives."""

import pytest

ADDRESS = "/v1/jobs/find-lr"


def outcome(response):
    answer = response.json()
    if response.status_code != 201:
        return response.status_code, answer
    return 201, answer["spec"], answer["resolved_spec"]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({}, {}),
        ({"range_test": None}, {}),
        ({"range_test": {"steps": 7}}, {"steps": 7}),
        ({"range_test": 3}, 3),
    ],
)
def test_a_range_test_is_set_where_there_is_none_and_then_submitted(api, spec, sent, meant):
    found, submitted = api.post(ADDRESS, json=spec(**sent)), api.post("/v1/jobs", json=spec(range_test=meant))
    assert outcome(found) == outcome(submitted)
    for response in (found, submitted):
        if response.status_code == 201:
            api.post(f"/v1/jobs/{response.json()['id']}/cancel")


def test_every_other_problem_of_the_spec_is_named(api, spec):
    details = api.post(ADDRESS, json=spec(batch_size=0, dataset={"path": "shape"})).json()["error"]["details"]
    assert {"batch_size", "dataset.path"} <= {problem["param"] for problem in details}


def test_a_body_that_is_no_object_is_refused(api):
    assert api.post(ADDRESS, content=b"[]").status_code == 422
    assert api.post(ADDRESS, content=b"{").status_code == 400
