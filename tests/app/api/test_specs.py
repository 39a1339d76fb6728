"""Specs as text, both ways."""

import json

import pytest

SPEC = {
    "dataset": {"path": "shapes"},
    "backbone": {"name": "tiny_net", "weights": None},
    "stages": [{"epochs": 2, "lr": {"schedule": {"name": "list", "values": [[0.001, 2]]}}}],
}
YAML = """
dataset: {path: shapes}
backbone:
  name: tiny_net
  weights: null
stages:
- epochs: 2
  lr:
    schedule: {name: list, values: [[1e-3, 2]]}
"""


@pytest.mark.parametrize("body", [{"text": YAML}, {"text": json.dumps(SPEC)}, {"spec": SPEC}])
def test_spec_is_given_as_itself_and_as_both_texts(api, body):
    answer = api.post("/v1/specs/convert", json=body)
    assert answer.status_code == 200
    told = answer.json()
    assert told["spec"] == SPEC
    assert json.loads(told["json"]) == SPEC
    for text in (told["json"], told["yaml"]):
        assert api.post("/v1/specs/convert", json={"text": text}).json() == told


def test_what_is_wrong_with_a_text_is_said_with_its_line(api):
    answer = api.post("/v1/specs/convert", json={"text": "dataset:\n  path: a\n  path: b\n"})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]
    assert problem == {"param": "text", "code": "not_readable", "message": "line 3: 'path' stands here twice"}


@pytest.mark.parametrize("text", ["", "- a list", "7", "x" * 100_001, "a: &a [*a]", "a: \x00"])
def test_text_that_is_no_spec_is_refused(api, text):
    assert api.post("/v1/specs/convert", json={"text": text}).status_code == 422


@pytest.mark.parametrize("body", [{}, [], 7, {"text": 1}, {"spec": []}, {"text": "{}", "spec": {}}])
def test_body_that_is_neither_is_refused(api, body):
    answer = api.post("/v1/specs/convert", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "not_convertible"
