import json

import pytest

CALLS = {
    ("post", "/v1/jobs"),
    ("get", "/v1/jobs"),
    ("post", "/v1/jobs/plan"),
    ("post", "/v1/jobs/find-lr"),
    ("get", "/v1/jobs/{job_id}"),
    ("delete", "/v1/jobs/{job_id}"),
    ("post", "/v1/jobs/{job_id}/cancel"),
    ("post", "/v1/jobs/{job_id}/pause"),
    ("post", "/v1/jobs/{job_id}/resume"),
    ("post", "/v1/jobs/{job_id}/retry"),
    ("post", "/v1/jobs/{job_id}/branch"),
    ("post", "/v1/jobs/{job_id}/predict"),
    ("get", "/v1/jobs/{job_id}/metrics"),
    ("get", "/v1/jobs/{job_id}/events"),
    ("get", "/v1/jobs/{job_id}/checkpoints"),
    ("get", "/v1/jobs/{job_id}/report"),
    ("get", "/v1/jobs/{job_id}/report/predictions"),
    ("get", "/v1/jobs/{job_id}/report/images"),
    ("post", "/v1/jobs/{job_id}/report/corrections"),
    ("get", "/v1/jobs/{job_id}/checkpoints/{checkpoint}/download"),
    ("post", "/v1/experiments"),
    ("get", "/v1/experiments"),
    ("get", "/v1/experiments/{experiment_id}"),
    ("delete", "/v1/experiments/{experiment_id}"),
    ("post", "/v1/experiments/{experiment_id}/cancel"),
    ("get", "/v1/backbones"),
    ("get", "/v1/datasets"),
    ("get", "/v1/datasets/{name}"),
    ("put", "/v1/datasets/{name}"),
    ("post", "/v1/specs/convert"),
    ("get", "/v1/curves"),
    ("get", "/v1/jobs/{job_id}/loading"),
    ("get", "/v1/images"),
    ("get", "/v1/images/{image_id}"),
    ("get", "/v1/caller"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}
NO_BODY = {
    ("get", "/v1/images/{image_id}"),
    ("get", "/v1/jobs/{job_id}/report/predictions"),
    ("delete", "/v1/jobs/{job_id}"),
    ("delete", "/v1/experiments/{experiment_id}"),
    ("get", "/v1/jobs/{job_id}/checkpoints/{checkpoint}/download"),
}


@pytest.fixture(scope="module")
def page(api):
    response = api.get("/openapi.json")
    assert response.status_code == 200
    return json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture(scope="module")
def calls(page):
    return {(method, path): call for path, item in page["paths"].items() for method, call in item.items()}


def nodes(node):
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def nested(part):
    return set(part[0] if isinstance(part, list) else part)


def examples(content):
    found = [content["example"]] if "example" in content else []
    return found + [example["value"] for example in content.get("examples", {}).values()]


def test_page_has_every_call(calls):
    assert {(method, path.replace("{name:path}", "{name}")) for method, path in calls} == CALLS


def test_every_call_has_an_example_of_its_answer(calls):
    for where, call in calls.items():
        if where in NO_BODY:
            continue
        good = [answer for status, answer in call["responses"].items() if status.startswith("2")]
        assert any(examples(body) for answer in good for body in answer.get("content", {}).values()), where


def test_every_refusal_on_the_page_has_the_one_shape(calls):
    for where, call in calls.items():
        for status, answer in call["responses"].items():
            if status.startswith(("4", "5")):
                assert answer["content"]["application/json"]["schema"] == {
                    "$ref": "#/components/schemas/Error"
                }
                (content,) = answer["content"].values()
                (example,) = examples(content)
                assert set(example) == {"error"}, (where, status)
                assert set(example["error"]) == {"message", "type", "param", "code", "details"}


def test_every_reference_leads_somewhere(page):
    references = [
        node["$ref"] for node in nodes(page) if isinstance(node, dict) and isinstance(node.get("$ref"), str)
    ]
    assert "#/components/schemas/JobSpec" in references
    for reference in references:
        target = page
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_discriminator_leads_somewhere(page):
    for node in nodes(page):
        if isinstance(node, dict) and isinstance(node.get("discriminator"), dict):
            for reference in node["discriminator"].get("mapping", {}).values():
                assert reference.rpartition("/")[2] in page["components"]["schemas"]


def test_all_statuses_are_published(page):
    assert page["components"]["schemas"]["Status"]["enum"] == [
        "queued",
        "running",
        "pausing",
        "paused",
        "cancelling",
        "cancelled",
        "succeeded",
        "failed",
    ]


def test_examples_of_what_is_sent_are_sound_specs(api, calls):
    for path in ("/v1/jobs", "/v1/jobs/plan"):
        (content,) = calls["post", path]["requestBody"]["content"].values()
        for body in examples(content):
            here = {**body, "dataset": {"path": "shapes"}, "backbone": {"name": "resnet18", "weights": None}}
            response = api.post("/v1/jobs/plan", json=here)
            assert response.status_code == 200, response.text


def test_examples_of_experiments_are_sound(api, calls):
    (content,) = calls["post", "/v1/experiments"]["requestBody"]["content"].values()
    assert len(examples(content)) == 2
    for body in examples(content):
        spec = {**body["spec"], "dataset": {"path": "shapes"}}
        response = api.post("/v1/experiments", json={**body, "spec": spec, "seeds": [0]})
        assert response.status_code == 201, response.text
        api.post(f"/v1/experiments/{response.json()['id']}/cancel")


def test_examples_of_branches_are_sound(api, calls, hold, write_epoch):
    call = calls["post", "/v1/jobs/{job_id}/branch"]
    (content,) = call["requestBody"]["content"].values()
    assert len(examples(content)) == 2
    held = hold()
    checkpoint = write_epoch(held, 1)
    (answer,) = examples(call["responses"]["201"]["content"]["application/json"])
    for body in examples(content):
        body |= {} if body["checkpoint"] == "last" else {"checkpoint": checkpoint.id}
        response = api.post(f"/v1/jobs/{held.job_id}/branch", json=body)
        assert response.status_code == 201, response.text
        assert set(response.json()) == set(answer)
        api.post(f"/v1/jobs/{response.json()['id']}/cancel")


def test_examples_of_answers_have_the_fields_of_real_ones(
    api, calls, post, hold, write_epoch, make_experiment
):
    held = hold()
    write_epoch(held, 1)
    experiment = api.post("/v1/experiments", json=make_experiment()).json()["id"]
    api.post(f"/v1/experiments/{experiment}/cancel")
    real = {
        "/v1/experiments": "/v1/experiments",
        "/v1/experiments/{experiment_id}": f"/v1/experiments/{experiment}",
        "/v1/jobs/{job_id}": f"/v1/jobs/{held.job_id}",
        "/v1/jobs": "/v1/jobs",
        "/v1/jobs/{job_id}/metrics": f"/v1/jobs/{held.job_id}/metrics",
        "/v1/jobs/{job_id}/events": f"/v1/jobs/{held.job_id}/events",
        "/v1/jobs/{job_id}/checkpoints": f"/v1/jobs/{held.job_id}/checkpoints",
        "/v1/backbones": "/v1/backbones",
        "/v1/datasets": "/v1/datasets",
        "/v1/datasets/{name}": "/v1/datasets/shapes",
        "/v1/images": "/v1/images?dataset=shapes",
        "/v1/caller": "/v1/caller",
    }
    for path, address in real.items():
        (example,) = examples(calls["get", path]["responses"]["200"]["content"]["application/json"])
        answer = api.get(address).json()
        assert set(answer) == set(example), path
        if "data" in example:
            assert set(answer["data"][0]) == set(example["data"][0]), path
        for part in ("jobs", "table", "comparisons", "progress"):
            if path == "/v1/experiments/{experiment_id}":
                assert nested(answer[part]) == nested(example[part]), (path, part)


def test_page_for_people_is_there(api):
    response = api.get("/docs")
    assert response.status_code == 200
    assert "/openapi.json" in response.text


def test_a_prediction_takes_an_image_or_a_form_and_its_example_has_the_fields_of_a_real_one(
    calls, predict, pictures
):
    call = calls["post", "/v1/jobs/{job_id}/predict"]
    assert {"image/*", "application/octet-stream", "multipart/form-data"} == set(
        call["requestBody"]["content"]
    )
    (example,) = examples(call["responses"]["200"]["content"]["application/json"])
    answer = predict(pictures[0]).json()
    assert set(answer) == set(example)
    assert set(answer["data"][0]) == set(example["data"][0])
    assert set(answer["data"][0]["classes"][0]) == set(example["data"][0]["classes"][0])
    assert set(answer["seconds"]) == set(example["seconds"])
