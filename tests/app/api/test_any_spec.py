"""Any JSON as a spec, over HTTP: a job, a plan, or a refusal in the one shape; and the same one each time."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.anything import JSON, SPECS, mutated

ANY = pytest.mark.promise("Any JSON as a spec gives a job, a plan or a refusal, and the same one each time")
QUICK = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
# Fields that are what a test's server has, so that much of it is accepted.
HERE = {"dataset": {"path": "shapes"}, "backbone": {"name": "tiny_net", "weights": None}}


@pytest.fixture(scope="module")
def server(house):
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as client:
        yield client


def send(server, address, body):
    """Posts any JSON as it is, halves of surrogate pairs, NaN and all."""
    content = json.dumps(body).encode("ascii")
    answer = server.post(address, content=content)
    if answer.status_code >= 400:
        assert answer.status_code in (400, 413, 422), answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code", "details"}
        assert error["message"]
    return answer


def check(server, body):
    """A job and a plan, or neither; twice the same plan; what is stored resolves to itself."""
    planned, again = (send(server, "/v1/jobs/plan", body) for _ in range(2))
    assert planned.status_code == again.status_code
    assert planned.content == again.content
    made = send(server, "/v1/jobs", body)
    assert made.status_code in (201, 400, 413, 422)
    if planned.status_code == 200:
        assert made.status_code == 201, made.text
    if made.status_code == 201:
        resolved = made.json()["resolved_spec"]
        once_more = send(server, "/v1/jobs", resolved)
        assert once_more.status_code == 201, once_more.text
        assert once_more.json()["resolved_spec"] == resolved
        if planned.status_code == 200:
            assert send(server, "/v1/jobs/plan", resolved).json() == planned.json()
    return made.status_code


def tries(long, count):
    return settings(QUICK, max_examples=5 * count if long else count)


@ANY
def test_any_json_is_answered(server, long, tried):
    @tries(long, 40)
    @given(JSON)
    def run(body):
        tried(1)
        assert check(server, body) in (201, 400, 422)

    run()


@ANY
def test_a_spec_with_anything_anywhere_is_answered(server, long, tried):
    @tries(long, 40)
    @given(mutated())
    def run(body):
        tried(1)
        check(server, body)

    run()


@ANY
def test_what_is_accepted_is_the_same_job_and_plan_each_time(server, long, tried):
    accepted = []

    @tries(long, 40)
    @given(SPECS, st.booleans())
    def run(body, named):
        body = body | HERE
        if not named:
            body.pop("name", None)
            body.pop("metadata", None)
        if "stages" in body:
            body.pop("recipe", None)
            body["stages"] = [{**stage, "freeze": {"policy": "none"}} for stage in body["stages"]]
        else:
            body.setdefault("recipe", {"name": "joint"})
        tried(1)
        accepted.append(check(server, body) == 201)

    run()
    assert sum(accepted) >= 10
