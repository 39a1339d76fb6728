import pytest

from app.store.attempts import finish
from app.store.states import Status

FACTORS = {"factors": [{"modules": ["head"], "factor": 10.0}], "default_factor": 0.9}


def plan(api, body):
    response = api.post("/v1/jobs/plan", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def staged(spec, epochs, schedule, **changes):
    stage = {"name": "all", "epochs": epochs, "lr": {"schedule": schedule, **FACTORS}}
    return spec(recipe=None, stages=[stage | changes])


@pytest.mark.parametrize(
    ("epochs", "schedule", "golden"),
    [
        (
            30,
            {"name": "list", "values": [[0.01, 10], [0.005, 10], [0.0025, 10]]},
            {1: (0.009, 0.1), 10: (0.009, 0.1), 11: (0.0045, 0.05), 30: (0.00225, 0.025)},
        ),
        (
            40,
            {"name": "logspace", "start": -2, "stop": -4, "num": 40},
            {1: (0.009, 0.1), 2: (0.00799761, 0.0888624), 40: (0.00009, 0.001)},
        ),
    ],
)
def test_rates_are_the_golden_ones(api, spec, epochs, schedule, golden):
    (stage,) = plan(api, staged(spec, epochs, schedule))["stages"]
    assert [row["epoch"] for row in stage["lr"]] == list(range(1, epochs + 1))
    for epoch, (rest, head) in golden.items():
        for step in ("first", "last"):
            rates = stage["lr"][epoch - 1][step]
            assert rates == {"default": pytest.approx(rest, rel=1e-5), "head": pytest.approx(head, rel=1e-5)}


def test_plan_says_what_is_frozen_trained_and_replaced(api, spec):
    answer = plan(api, spec())
    assert answer["object"] == "fine_tuning.plan"
    assert answer["classes"] == ["circle", "square", "triangle"]
    assert answer["images"] == {"train": 9, "val": 6}
    assert answer["head"] == {
        "modules": ["head"],
        "action": "replaced",
        "reason": "the network starts from random weights",
        "classes": 3,
        "outputs": 3,
        "kept": [],
        "new": ["circle", "square", "triangle"],
    }
    total = answer["backbone"]["parameters"]
    head, everything = answer["stages"]
    assert (head["trained_parameters"], head["frozen_parameters"]) == (12 * 3 + 3, total - 39)
    assert [part["module"] for part in head["frozen"]] == ["stem", "body"]
    assert head["features_once"]
    assert (everything["trained_parameters"], everything["frozen"]) == (total, [])
    (group,) = head["groups"]
    assert (group["modules"], group["tensors"], group["parameters"]) == (["head"], 2, 39)
    assert {stage["steps_per_epoch"] for stage in answer["stages"]} == {1}
    assert any("random weights" in warning for warning in answer["warnings"])


def test_plan_warns_of_what_rarely_helps(api, spec):
    schedule = {"name": "constant", "lr": 0.01}
    between = staged(spec, 1, schedule, freeze={"policy": "modules", "modules": ["body"]})
    assert any("body.0 is frozen between stem.1 and head" in text for text in plan(api, between)["warnings"])
    idle = staged(spec, 1, schedule, freeze={"policy": "modules", "modules": ["stem"]})
    idle["stages"][0]["lr"]["factors"].append({"modules": ["stem"], "factor": 2.0})
    assert any("'stem' touches only frozen modules" in text for text in plan(api, idle)["warnings"])


def test_plan_stores_nothing(api, spec, store):
    before = api.get("/v1/jobs").json()["first_id"]
    plan(api, spec(name="only planned"))
    assert api.get("/v1/jobs").json()["first_id"] == before


def test_plan_of_an_untrainable_dataset_says_what_to_mend(api, spec):
    response = api.post("/v1/jobs/plan", json=spec(dataset={"path": "one_class"}))
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("dataset_invalid", "dataset.path")
    assert "one class only" in error["message"]


def test_plan_of_weights_that_are_no_tensors_is_refused(api, spec):
    backbone = {"name": "tiny_net", "weights": {"file": "text.safetensors"}}
    response = api.post("/v1/jobs/plan", json=spec(backbone=backbone))
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "weights_incompatible"


def test_plan_of_a_torchvision_backbone_needs_no_weights_file(api, spec):
    answer = plan(api, spec(backbone={"name": "resnet18", "weights": None}, image_size=32))
    assert answer["preprocessing"]["crop"] == 32
    assert answer["head"]["modules"] == ["fc"]


@pytest.mark.parametrize(("path", "status"), [("/v1/jobs/plan", 200), ("/v1/jobs", 201)])
def test_a_dataset_that_does_not_fill_a_triplet_batch_is_refused_at_plan_and_submission(
    api, spec, path, status
):
    def answer(images):
        objective = {"name": "triplet", "classes_per_batch": 3, "images_per_class": images}
        return api.post(path, json=spec(recipe={"name": "triplet"}, objective=objective))

    assert answer(3).status_code == status
    refused = answer(4)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (422, "objective.images_per_class")
    assert "has 3 training images and a batch takes 4 of each class" in error["message"]
    assert error["message"].endswith("add images or take 3 or fewer")


def test_plan_says_how_long_it_may_take_once_such_a_job_has_succeeded(api, spec, hold, write_epoch, store):
    body = spec(backbone={"name": "tiny_wide", "weights": None}, recipe={"name": "joint", "epochs": 3})
    first = plan(api, body)
    nothing = {"seconds": None, "because": "no job with tiny_wide has succeeded here yet"}
    assert first["estimate"] == nothing
    held = hold(**body)
    write_epoch(held, 1)  # a second for the 3 images that 0.3 s trained at 10 a second
    assert plan(api, body)["estimate"] == nothing
    finish(store, held, Status.SUCCEEDED, "all stages are done")
    found = plan(api, body)["estimate"]
    assert found["seconds"] >= 3 * first["images"]["train"] / 3
    assert found["because"] == f"as {held.job_id} took"


def test_plan_has_the_resolved_spec_and_the_blocks_of_the_network(api, spec):
    found = plan(api, spec())
    assert [stage["epochs"] for stage in found["resolved_spec"]["stages"]] == [3, 2]
    assert [block["name"] for block in found["blocks"]] == ["stem", "body", "head"]
    assert [stage["blocks"] for stage in found["stages"]] == [
        ["frozen", "frozen", "head"],
        ["trained", "trained", "head"],
    ]
