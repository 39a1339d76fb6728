"""A job that starts from a checkpoint of another, over HTTP; what a worker would write, the tests write."""

from uuid import uuid4

import pytest

from app.store.attempts import finish
from app.store.reports import drop_checkpoints
from app.store.states import Status

STAGE = {"name": "more", "epochs": 2, "lr": {"schedule": {"name": "constant", "lr": 0.001}}}


@pytest.fixture
def trained(hold, write_epoch):
    """A job that is being trained and has two checkpoints, the first its best."""

    def make(**changes):
        held = hold(**changes)
        first, second = write_epoch(held, 1), write_epoch(held, 2, best=False)
        return held, first, second

    return make


@pytest.fixture
def branch(api):
    made = []

    def post(job, body, **headers):
        response = api.post(f"/v1/jobs/{job}/branch", json=body, headers=headers)
        if response.status_code == 201:
            made.append(response.json()["id"])
        return response

    yield post
    for job in made:
        api.post(f"/v1/jobs/{job}/cancel")  # or the next test's worker would take it


def refused(response, status, code, param):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    return error


def test_branch_goes_on_from_a_checkpoint_with_a_plan_of_its_own(api, trained, branch):
    held, _, second = trained(
        name="shapes", metadata={"team": "zoo"}, batch_size=4, image_size=16, seed=7, head={"dropout": 0.1}
    )
    response = branch(held.job_id, {"checkpoint": second.id, "patch": {"stages": [STAGE], "name": "slower"}})
    assert response.status_code == 201, response.text
    job, parent = response.json(), api.get(f"/v1/jobs/{held.job_id}").json()
    assert (job["status"], job["attempt"], job["best"]) == ("queued", 0, None)
    assert (job["parent"], job["branched_from"]) == (held.job_id, second.id)
    assert (job["name"], job["metadata"]) == ("slower", {"team": "zoo"})
    spec, resolved = job["spec"], job["resolved_spec"]
    weights = {"job": held.job_id, "checkpoint": second.id}
    assert spec["backbone"] == resolved["backbone"] == {"name": "tiny_net", "weights": weights}
    for field in ("dataset", "batch_size", "image_size", "seed", "head"):
        assert spec[field] == parent["spec"][field]
        assert resolved[field] == parent["resolved_spec"][field]
    assert (spec["stages"], "recipe" in spec) == ([STAGE], False)
    assert [(stage["name"], stage["epochs"]) for stage in resolved["stages"]] == [("more", 2)]
    assert parent["status"] == "running"
    assert api.get(f"/v1/jobs/{job['id']}").json() == job


@pytest.mark.parametrize(("name", "number"), [("best", 0), ("last", 1), (None, 0)])
def test_checkpoint_is_the_one_of_that_name_at_that_time(trained, branch, write_epoch, name, number):
    held, *checkpoints = trained()
    body = {"patch": {"stages": [STAGE]}} | ({"checkpoint": name} if name else {})
    job = branch(held.job_id, body).json()
    assert job["branched_from"] == checkpoints[number].id
    assert job["spec"]["backbone"]["weights"]["checkpoint"] == checkpoints[number].id


def test_branch_may_have_a_recipe_and_differ_in_any_other_field(trained, branch):
    held, *_ = trained()
    patch = {"recipe": {"name": "joint", "epochs": 4}, "batch_size": 64, "dataset": {"val_fraction": 0.3}}
    job = branch(held.job_id, {"patch": patch}).json()
    assert job["spec"]["dataset"] == {"path": "shapes", "val_fraction": 0.3}
    assert (job["resolved_spec"]["batch_size"], job["resolved_spec"]["stages"][0]["epochs"]) == (64, 4)


def test_name_and_metadata_of_a_branch_are_patched_as_any_other_field(trained, branch):
    held, *_ = trained(name="shapes", metadata={"name": "a", "team": "zoo", "try": "1"})
    patch = {"stages": [STAGE], "name": None, "metadata": {"name": "b", "try": None}}
    job = branch(held.job_id, {"patch": patch}).json()
    assert (job["name"], job["metadata"]) == (None, {"name": "b", "team": "zoo"})
    refused(
        branch(held.job_id, {"patch": {"stages": [STAGE], "metadata": 3}}), 422, "dict_type", "patch.metadata"
    )


def test_branch_keeps_the_head_that_its_parent_was_told_to_replace(trained, branch):
    held, *_ = trained(head={"keep": "never", "dropout": 0.5})
    job = branch(held.job_id, {"patch": {"stages": [STAGE]}}).json()
    assert job["resolved_spec"]["head"] == {"dropout": 0.5, "keep": "auto"}
    job = branch(held.job_id, {"patch": {"stages": [STAGE], "head": {"keep": "never"}}}).json()
    assert job["resolved_spec"]["head"] == {"dropout": 0.5, "keep": "never"}


TRIPLET = {"name": "triplet", "classes_per_batch": 3, "images_per_class": 2}


def test_branch_keeps_the_objective_that_a_recipe_stood_for(trained, branch):
    held, *_ = trained(recipe={"name": "triplet", "epochs": 3}, objective=TRIPLET)
    job = branch(held.job_id, {"patch": {"stages": [STAGE]}}).json()
    assert job["resolved_spec"]["objective"]["name"] == "triplet"


def test_branch_may_go_on_with_another_objective(trained, branch):
    of_classes, *_ = trained()
    of_embeddings, *_ = trained(
        objective={**TRIPLET, "embedding_size": 8}, recipe={"name": "joint", "epochs": 2}
    )
    patch = {"recipe": {"name": "triplet", "epochs": 3}, "objective": TRIPLET}
    job = branch(of_classes.job_id, {"patch": patch}).json()
    assert job["resolved_spec"]["objective"]["classes_per_batch"] == 3
    patch = {"stages": [STAGE], "objective": {"name": "cross_entropy"}}
    job = branch(of_embeddings.job_id, {"patch": patch}).json()
    assert job["resolved_spec"]["objective"]["name"] == "cross_entropy"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing", "patch"),
        ([], "model_type", None),
        ({"patch": []}, "dict_type", "patch"),
        ({"patch": {}}, "no_plan", "patch"),
        ({"patch": {"stages": None}}, "no_plan", "patch"),
        ({"patch": {"stages": [STAGE]}, "colour": 1}, "extra_forbidden", "colour"),
        ({"patch": {"stages": [STAGE]}, "checkpoint": 3}, "string_type", "checkpoint"),
        ({"patch": {"stages": [STAGE]}, "checkpoint": ""}, "too_short", "checkpoint"),
        ({"patch": {"stages": [STAGE]}, "checkpoint": "x\x00"}, "value_error", "checkpoint"),
        ({"patch": {"stages": [STAGE]}, "checkpoint": "ckpt_none"}, "checkpoint_not_found", "checkpoint"),
        (
            {"patch": {"stages": [STAGE], "backbone": {"name": "tiny_wide"}}},
            "not_of_a_branch",
            "patch.backbone",
        ),
        ({"patch": {"stages": []}}, "too_short", "patch.stages"),
        ({"patch": {"stages": [{**STAGE, "epochs": 0}]}}, "greater_than_equal", "patch.stages.0.epochs"),
        ({"patch": {"stages": [STAGE], "batch_size": "many"}}, "int_type", "patch.batch_size"),
        (
            {"patch": {"stages": [STAGE], "dataset": {"path": "gone"}}},
            "dataset_not_found",
            "patch.dataset.path",
        ),
    ],
)
def test_what_is_wrong_with_a_branch_is_named(trained, branch, body, code, param):
    held, *_ = trained()
    refused(branch(held.job_id, body), 422, code, param)


def test_job_without_a_checkpoint_has_nothing_to_branch_from(post, branch):
    job = post()["id"]
    error = refused(branch(job, {"patch": {"stages": [STAGE]}}), 422, "checkpoint_not_found", "checkpoint")
    assert error["message"] == f"checkpoint: job {job} has no checkpoint 'best'"


@pytest.mark.parametrize("job", ["job_none", "%00", "x" * 5000])
def test_branch_of_a_job_that_is_not_there_is_not_found(branch, job):
    assert branch(job, {"patch": {"stages": [STAGE]}}).status_code == 404


def test_same_key_and_body_give_the_same_branch(trained, branch):
    held, *_ = trained()
    key, body = {"Idempotency-Key": uuid4().hex}, {"patch": {"stages": [STAGE]}}
    first, again = branch(held.job_id, body, **key), branch(held.job_id, body, **key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    other = branch(held.job_id, {"patch": {"stages": [{**STAGE, "epochs": 3}]}}, **key)
    assert other.status_code == 409


def test_job_is_deleted_only_when_its_branches_have_ended(api, trained, branch, store):
    held, *_ = trained()
    child = branch(held.job_id, {"patch": {"stages": [STAGE]}}).json()["id"]
    finish(store, held, Status.SUCCEEDED, "done")
    response = api.delete(f"/v1/jobs/{held.job_id}")
    assert response.status_code == 409
    assert child in response.json()["error"]["message"]
    api.post(f"/v1/jobs/{child}/cancel")
    assert api.delete(f"/v1/jobs/{held.job_id}").status_code == 204
    assert api.get(f"/v1/jobs/{child}").json()["parent"] == held.job_id


def test_retry_of_a_branch_whose_checkpoint_is_gone_says_so(api, trained, branch, store):
    held, first, _ = trained()
    child = branch(held.job_id, {"patch": {"stages": [STAGE]}}).json()["id"]
    api.post(f"/v1/jobs/{child}/cancel")
    assert drop_checkpoints(store, held, 60, [first.id])
    error = api.post(f"/v1/jobs/{child}/retry").json()["error"]
    assert (error["code"], error["param"]) == ("weights_not_found", "backbone.weights.job")
