import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest


def refused(response, status, code=None, param=None):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"] == param
    return error


def test_submitted_job_is_queued_and_has_the_published_fields(api, spec):
    sent = spec(name="ants and bees", metadata={"team": "zoo"}, priority=3, max_attempts=5)
    response = api.post("/v1/jobs", json=sent)
    assert response.status_code == 201
    job = response.json()
    assert job["object"] == "fine_tuning.job"
    assert job["id"].startswith("job_")
    assert (job["status"], job["status_reason"]) == ("queued", "waiting for a worker")
    assert (job["name"], job["metadata"], job["max_attempts"]) == ("ants and bees", {"team": "zoo"}, 5)
    assert job["attempt"] == 0
    nothing = ("error", "started_at", "finished_at", "estimated_finish", "progress", "worker", "parent")
    assert [job[name] for name in (*nothing, "best", "result")] == [None] * 9
    assert job["spec"] == sent
    stages = job["resolved_spec"]["stages"]
    assert [(stage["name"], stage["epochs"]) for stage in stages] == [("head", 3), ("all", 2)]
    assert api.get(f"/v1/jobs/{job['id']}").json() == job


def test_every_problem_is_in_one_answer(api, spec):
    wrong = spec(
        dataset={"path": "shape"},
        backbone={"name": "resnet19"},
        batch_size=True,
        head={"dropout": "0.5"},
        colour="red",
    )
    error = refused(api.post("/v1/jobs", json=wrong), 422)
    details = {problem["param"]: problem for problem in error["details"]}
    assert set(details) == {"batch_size", "head.dropout", "colour", "dataset.path", "backbone.name"}
    assert error["param"] == error["details"][0]["param"]
    assert error["message"] == f"{error['param']}: {error['details'][0]['message']}"
    assert error["code"] == error["details"][0]["code"]
    assert "did you mean 'shapes'?" in details["dataset.path"]["message"]
    assert "'resnet18'" in details["backbone.name"]["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"stages": [{"epochs": 1}]}, "stages.0.lr"),
        ({"recipe": None}, "stages"),
        ({"recipe": {"name": "three_stage"}}, "recipe"),
        ({"recipe": {"name": "triplet"}}, "objective.classes_per_batch"),
        ({"metadata": {"team": 1}}, "metadata.team"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"name": "x" * 201}, "name"),
        ({"name": "nul\x00"}, "name"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -1}, "seed"),
        ({"image_size": 3}, "image_size"),
        ({"priority": 1e3}, "priority"),
        ({"backbone": {"name": "tiny_net", "weights": "DEFAULT"}}, "backbone.weights"),
        (
            {"backbone": {"name": "tiny_net", "weights": {"file": "none.safetensors"}}},
            "backbone.weights.file",
        ),
        ({"backbone": {"name": "tiny_net", "weights": {"job": "job_none"}}}, "backbone.weights.job"),
    ],
)
def test_a_field_that_is_wrong_is_named(api, spec, change, param):
    error = refused(api.post("/v1/jobs", json=spec(**change)), 422)
    assert error["param"].startswith(param)


def _staged(**changes):
    stage = {"epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}
    whole = {name: changes.pop(name) for name in ("objective",) if name in changes}
    return {"recipe": None, "stages": [stage | changes], **whole}


@pytest.mark.parametrize(
    ("change", "param", "text"),
    [
        ({"freeze": {"policy": "before", "module": "boddy"}}, "stages.0.freeze.module", "'body'"),
        ({"freeze": {"policy": "modules", "modules": ["stem", "hed"]}}, "stages.0.freeze.modules", "'head'"),
        ({"freeze": {"policy": "modules", "modules": ["*"]}}, "stages.0.freeze", "nothing"),
        ({"freeze": {"policy": "thaw"}}, "stages.0.freeze", "backbone"),
        (
            {
                "lr": {
                    "schedule": {"name": "constant", "lr": 1},
                    "factors": [{"modules": ["heat"], "factor": 2}],
                }
            },
            "stages.0.lr.factors",
            "'head'",
        ),
        ({"optimizer": {"name": "sgd", "momentum": 0.0, "nesterov": True}}, "stages.0.optimizer", "momentum"),
        ({"lr": {"schedule": {"name": "constant", "lr": -1}}}, "stages.0.lr.schedule", "0"),
        ({"objective": {"name": "triplet"}}, "objective.classes_per_batch", "3 classes"),
        ({"epochs": 3, "lr": {"schedule": {"name": "list", "values": [0.1]}}}, "stages.0.lr", "values"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_before_it_is_stored(api, spec, change, param, text):
    error = refused(api.post("/v1/jobs", json=spec(**_staged(**change))), 422)
    assert error["param"].startswith(param)
    assert text in error["message"]


@pytest.mark.parametrize("path", ["leaving", "../outside", "/etc", "absent", "shapes/../../outside"])
def test_absent_and_outside_datasets_get_the_same_answer(api, spec, path):
    error = refused(
        api.post("/v1/jobs", json=spec(dataset={"path": path})), 422, "dataset_not_found", "dataset.path"
    )
    usual = refused(api.post("/v1/jobs", json=spec(dataset={"path": "QQQ"})), 422)
    assert error["message"].split("; ")[0] == usual["message"].split("; ")[0].replace("QQQ", path)


@pytest.mark.parametrize("file", ["../secret.safetensors", "none.safetensors"])
def test_absent_and_outside_weights_get_the_same_answer(api, spec, file):
    backbone = {"name": "tiny_net", "weights": {"file": file}}
    error = refused(api.post("/v1/jobs", json=spec(backbone=backbone)), 422, "weights_not_found")
    assert error["message"].startswith(
        f"backbone.weights.file: there is no weights file {file!r} below the weights root"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b'{"batch_size": NaN}',
        b'{"batch_size": -Infinity}',
        b"\xff\xfe{}",
        b'{"name": "\xe9"}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"seed": ' + b"9" * 5_000 + b"}",
    ],
    ids=[
        "empty",
        "open",
        "word",
        "NaN",
        "Infinity",
        "UTF-16",
        "Latin-1",
        "deep list",
        "deep object",
        "digits",
    ],
)
@pytest.mark.parametrize("address", ["/v1/jobs", "/v1/jobs/plan"])
def test_what_is_no_json_is_a_bad_request(api, address, body):
    refused(api.post(address, content=body), 400, "not_json")


@pytest.mark.parametrize("depth", [100, 300, 500, 900, 990, 1_000, 3_000, 20_000])
@pytest.mark.parametrize("field", ["metadata", "backbone", "stages", "colour"])
def test_a_body_of_any_depth_is_refused(api, spec, field, depth):
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        body = json.dumps(spec(**{field: "DEEP"})).replace('"DEEP"', f"{opening * depth}1{closing * depth}")
        response = api.post("/v1/jobs", content=body)
        assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize("body", ["null", "[]", '"spec"', "3", "{}", '{"recipe": []}', '{"stages": {}}'])
@pytest.mark.parametrize("address", ["/v1/jobs", "/v1/jobs/plan"])
def test_json_that_is_no_spec_is_invalid(api, address, body):
    refused(api.post(address, content=body), 422)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "\ud800"},
        {"\ud800": 1},
        {"metadata": {"\udfff": "x"}},
        {"metadata": {"x": "\udfff"}},
        {"dataset": {"path": "\ud800"}},
        {"backbone": {"name": "\ud800", "weights": None}},
        {"backbone": {"name": "tiny_net", "weights": {"file": "\ud800"}}},
        {"backbone": {"name": "tiny_net", "weights": {"job": "\ud800"}}},
        {"backbone": {"name": "tiny_net", "weights": {"job": "job_x", "checkpoint": "\ud800"}}},
        {
            "recipe": None,
            "stages": [{"name": "\ud800", "epochs": 1, "lr": {"schedule": {"name": "constant", "lr": 1}}}],
        },
        {"recipe": {"name": "\ud800"}},
    ],
)
@pytest.mark.parametrize("address", ["/v1/jobs", "/v1/jobs/plan"])
def test_half_a_surrogate_pair_is_invalid_wherever_it_stands(api, spec, address, change):
    body = json.dumps(spec(**change)).encode("ascii")
    error = refused(api.post(address, content=body), 422)
    assert error["param"].split(".")[0] == next(reversed(change))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400, "1e-999", "0.1" + "0" * 5_000])
def test_numbers_beyond_all_bounds_are_answered(api, spec, number):
    body = json.dumps(spec(batch_size="NUMBER")).replace('"NUMBER"', number)
    refused(api.post("/v1/jobs", content=body.encode()), 422, param="batch_size")


def test_a_body_beyond_a_megabyte_is_too_large(api, spec):
    body = json.dumps(spec(name="x" * 1_000_000))
    refused(api.post("/v1/jobs", content=body), 413, "too_large")

    def endless():
        for _ in range(20):
            yield b" " * 100_000

    refused(api.post("/v1/jobs", content=endless()), 413, "too_large")


def test_same_key_and_body_give_the_same_job(api, spec):
    headers = {"Idempotency-Key": "same-key"}
    first = api.post("/v1/jobs", json=spec(name="once"), headers=headers)
    other_order = dict(reversed(spec(name="once").items()))
    again = api.post("/v1/jobs", json=other_order, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    other_key = api.post("/v1/jobs", json=spec(name="once"), headers={"Idempotency-Key": "other-key"})
    assert other_key.json()["id"] != first.json()["id"]


def test_same_key_and_body_give_the_same_job_after_the_data_has_gone(api, house, spec):
    (dataset,) = {spec()["dataset"]["path"]}
    shutil.copytree(house.data / dataset, house.data / "fleeting")
    body = spec(dataset={"path": "fleeting"})
    headers = {"Idempotency-Key": "fleeting-key"}
    first = api.post("/v1/jobs", json=body, headers=headers)
    shutil.rmtree(house.data / "fleeting")
    again = api.post("/v1/jobs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]


def test_same_key_with_another_body_is_a_conflict(api, spec):
    headers = {"Idempotency-Key": "taken-key"}
    api.post("/v1/jobs", json=spec(name="first"), headers=headers)
    error = refused(api.post("/v1/jobs", json=spec(name="second"), headers=headers), 409, "conflict")
    assert "'taken-key'" in error["message"]


def test_one_key_sent_many_times_at_once_makes_one_job(api, spec):
    start = threading.Barrier(8)

    def submit(_):
        start.wait()
        return api.post("/v1/jobs", json=spec(name="race"), headers={"Idempotency-Key": "race-key"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none_is_invalid(api, spec, key):
    refused(api.post("/v1/jobs", json=spec(), headers={"Idempotency-Key": key}), 422)
