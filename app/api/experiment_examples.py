"""The examples of experiments on the OpenAPI page."""

from typing import Any

from app.api.examples import Responses, in_json, invalid, listed, quota, refusal, wrong_parameter
from app.verdict import method

BODY: dict[str, Any] = {
    "name": "which recipe",
    "spec": {"dataset": {"path": "hymenoptera"}, "backbone": {"name": "resnet18", "weights": "DEFAULT"}},
    "variants": [
        {"name": "two_stage", "patch": {"recipe": {"name": "two_stage"}}},
        {"name": "joint", "patch": {"recipe": {"name": "joint", "epochs": 20}}},
    ],
    "seeds": [0, 1, 2],
    "metric": "val_accuracy",
}
VALUES = {
    "two_stage": {"0": 0.9346, "1": 0.9281, "2": 0.9346},
    "joint": {"0": 0.9085, "1": 0.8954, "2": 0.902},
}
PROGRESS = {
    "queued": 0,
    "running": 0,
    "pausing": 0,
    "paused": 0,
    "cancelling": 0,
    "cancelled": 0,
    "succeeded": 6,
    "failed": 0,
}
EXPERIMENT: dict[str, Any] = {
    "object": "experiment",
    "id": "exp_7f3c09a1d25e4b8896d0c1aa",
    "name": "which recipe",
    "metadata": {},
    "owner": "zoo",
    "created_at": 1767225600.25,
    "status": "succeeded",
    "progress": PROGRESS,
    "spec": BODY["spec"],
    "variants": BODY["variants"],
    "seeds": [0, 1, 2],
    "metric": "val_accuracy",
    "jobs": [
        {
            "id": "job_5t2cqf1k8m4xw0z7h3nvb9rd",
            "variant": "two_stage",
            "seed": 0,
            "status": "succeeded",
            "value": 0.9346,
            "best_epoch": 66,
            "seconds": 81.5,
        }
    ],
    "table": [
        {
            "variant": "two_stage",
            "n": 3,
            "mean": 0.9324,
            "std": 0.0038,
            "values": VALUES["two_stage"],
            "best_epoch": 65.3,
            "seconds": 80.2,
            "failed": 0,
        },
        {
            "variant": "joint",
            "n": 3,
            "mean": 0.902,
            "std": 0.0065,
            "values": VALUES["joint"],
            "best_epoch": 14.0,
            "seconds": 95.9,
            "failed": 0,
        },
    ],
    "comparisons": [
        {
            "a": "two_stage",
            "b": "joint",
            "n": 3,
            "mean_difference": 0.0305,
            "std_difference": 0.0038,
            "p_value": 0.0051,
            "p_adjusted": 0.0051,
            "differs": True,
        }
    ],
    "test": method(2),
    "answer": "two_stage beats joint by 3.05 ± 0.38 points of val_accuracy over 3 seeds "
    "(paired test, p = 0.0051)",
}
WAITING: dict[str, Any] = {
    **EXPERIMENT,
    "status": "queued",
    "progress": PROGRESS | {"queued": 6, "succeeded": 0},
    "jobs": [
        {**EXPERIMENT["jobs"][0], "status": "queued", "value": None, "best_epoch": None, "seconds": None}
    ],
    "table": [
        {
            "variant": name,
            "n": 0,
            "mean": None,
            "std": None,
            "values": dict.fromkeys(values),
            "best_epoch": None,
            "seconds": None,
            "failed": 0,
        }
        for name, values in VALUES.items()
    ],
    "comparisons": [
        {
            "a": "two_stage",
            "b": "joint",
            "n": 0,
            "mean_difference": None,
            "std_difference": None,
            "p_value": None,
            "p_adjusted": None,
            "differs": False,
        }
    ],
    "answer": "too early to say: 0 of 6 jobs have ended",
}

experiment_body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ExperimentBody"},
                "examples": {
                    "recipes": {"summary": "Two recipes", "value": BODY},
                    "backbones": {
                        "summary": "Two backbones, with five seeds",
                        "value": {
                            "spec": {**BODY["spec"], "recipe": {"name": "two_stage"}},
                            "variants": [
                                {"name": "small", "patch": {}},
                                {"name": "large", "patch": {"backbone": {"name": "resnet50"}}},
                            ],
                            "seeds": [0, 1, 2, 3, 4],
                        },
                    },
                },
            }
        },
    }
}
unknown: Responses = refusal(404, "not_found", "there is no experiment exp_0")
conflict: Responses = {
    **unknown,
    **refusal(
        409,
        "conflict",
        f"2 jobs have not ended in experiment {EXPERIMENT['id']}; cancel it before it can be deleted",
    ),
}
experiment: Responses = {200: in_json("The experiment.", EXPERIMENT), **conflict}
experiment_created: Responses = {
    201: in_json("The experiment.", WAITING),
    **refusal(409, "conflict", "the idempotency key 'k' was used before with another request"),
    **invalid,
    **quota,
}
experiment_list: Responses = {
    200: in_json("A page of experiments.", listed(EXPERIMENT, "id")),
    **wrong_parameter,
}
