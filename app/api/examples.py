"""The examples on the OpenAPI page: what goes in and what comes out of each call."""

from typing import Any

Responses = dict[int | str, dict[str, Any]]

NULL = "<null>"  # stands for null on its way through FastAPI, which leaves nulls out

SPEC = {
    "name": "ants and bees",
    "metadata": {"team": "zoo"},
    "dataset": {"path": "hymenoptera"},
    "backbone": {"name": "resnet18", "weights": "DEFAULT"},
    "recipe": {"name": "two_stage", "head_epochs": 60, "full_epochs": 12},
    "batch_size": 32,
}
STAGED_SPEC = {
    "dataset": {"path": "hymenoptera"},
    "backbone": {"name": "resnet18"},
    "stages": [
        {
            "name": "head",
            "epochs": 3,
            "freeze": {"policy": "backbone"},
            "lr": {"schedule": {"name": "constant", "lr": 0.01}},
        },
        {
            "name": "top",
            "epochs": 10,
            "freeze": {"policy": "before", "module": "layer3"},
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "lr": {
                "schedule": {"name": "cosine", "lr": 0.001, "end_lr": 0.0},
                "factors": [{"modules": ["fc"], "factor": 10.0}],
                "default_factor": 0.9,
            },
            "augmentation": "standard",
        },
    ],
}
JOB = {
    "object": "fine_tuning.job",
    "id": "job_5t2cqf1k8m4xw0z7h3nvb9rd",
    "name": "ants and bees",
    "metadata": {"team": "zoo"},
    "status": "running",
    "status_reason": "taken by worker 1d0a1f3c-8a3f-4b5e-9d57-b2a4a7a0c9e1",
    "error": None,
    "created_at": 1767225600.25,
    "started_at": 1767225600.5,
    "finished_at": None,
    "estimated_finish": None,
    "progress": {
        "stage": "head",
        "stage_index": 0,
        "stages": 2,
        "epoch": 12,
        "epochs": 60,
        "step": 3,
        "steps": 8,
        "images_per_second": 9100.5,
    },
    "attempt": 1,
    "max_attempts": 3,
    "worker": "1d0a1f3c-8a3f-4b5e-9d57-b2a4a7a0c9e1",
    "parent": None,
    "branched_from": None,
    "owner": "zoo",
    "experiment": None,
    "variant": None,
    "spec": SPEC,
    "resolved_spec": STAGED_SPEC,
    "dataset_fingerprint": "4f3c7566e14222a66a4bb56d33518ea2afac8671dbf3e534728cbfc8bc8fff8d",
    "best": {"checkpoint": "ckpt_0d6y4x2s8k1mjq7w9v5t3hzn", "metric": "val_accuracy", "value": 0.928},
    "result": None,
}
BRANCH = {
    "checkpoint": "last",
    "patch": {
        "name": "ants and bees, slower",
        "stages": [
            {
                "name": "all",
                "epochs": 20,
                "lr": {"schedule": {"name": "cosine", "lr": 0.0001, "end_lr": 0.0}},
                "augmentation": "standard",
            }
        ],
    },
}
RECIPE_BRANCH = {
    "checkpoint": "ckpt_0d6y4x2s8k1mjq7w9v5t3hzn",
    "patch": {"recipe": {"name": "joint", "epochs": 10}, "batch_size": 64},
}
PLAN = {
    "object": "fine_tuning.plan",
    "backbone": {"name": "resnet18", "parameters": 11177538},
    "objective": "cross_entropy",
    "metric": "val_accuracy",
    "classes": ["ants", "bees"],
    "images": {"train": 245, "val": 153},
    "head": {
        "modules": ["fc"],
        "action": "replaced",
        "reason": "the weights' head knows none of the classes",
        "classes": 2,
        "outputs": 2,
        "kept": [],
        "new": ["ants", "bees"],
    },
    "preprocessing": {
        "resize": 256,
        "crop": 224,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    },
    "training_preprocessing": {
        "resize": 256,
        "crop": 224,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    },
    "stored": [
        {"split": "train", "short_side": 256, "bytes": 64162560},
        {"split": "val", "short_side": 256, "bytes": 40068864},
    ],
    "blocks": [
        {"name": "conv1", "parameters": 9536, "boundary": None, "head": False},
        {"name": "layer1", "parameters": 147968, "boundary": "layer1", "head": False},
        {"name": "fc", "parameters": 1026, "boundary": "fc", "head": True},
    ],
    "stages": [
        {
            "name": "head",
            "epochs": 1,
            "steps_per_epoch": 8,
            "batch_norm": "statistics stand still in 20 frozen layers, trained in 0",
            "augmentation": "none",
            "optimizer": "sgd (momentum 0.9)",
            "features_once": True,
            "compile": "off",
            "features": {
                "before": "fc",
                "views": 1,
                "train_images": 244,
                "val_images": 153,
                "bytes": 813056,
                "kept": "memory",
                "saving": 0.0,
            },
            "frozen": [{"module": "layer1", "parameters": 147968}],
            "blocks": ["frozen", "frozen", "head"],
            "frozen_parameters": 11176512,
            "trained_parameters": 1026,
            "options": [],
            "groups": [
                {
                    "name": "default",
                    "modules": ["fc"],
                    "tensors": 2,
                    "parameters": 1026,
                    "factor": 1.0,
                    "weight_decay": 0.0,
                }
            ],
            "lr": [{"epoch": 1, "first": {"default": 0.01}, "last": {"default": 0.01}}],
        }
    ],
    "warnings": [],
    "resolved_spec": STAGED_SPEC,
    "estimate": {"seconds": 95.3, "because": "as job_5t2cqf1k8m4xw0z7h3nvb9rd took"},
}
EPOCH = {
    "object": "fine_tuning.job.epoch",
    "stage": "all",
    "stage_index": 1,
    "epoch": 1,
    "global_epoch": 61,
    "attempt": 1,
    "lr": {"default": 0.0003},
    "train": {"loss": 0.221, "accuracy": 0.886},
    "val": {"loss": 0.213, "accuracy": 0.928},
    "val_ema": None,
    "images_per_second": 41.3,
    "seconds": {"data": 0.5, "train": 5.4, "val": 1.1, "checkpoint": 0.03},
    "peak_memory_bytes": 1203765248,
    "nonfinite": False,
    "created_at": 1767225660.75,
}
EVENT = {
    "object": "fine_tuning.job.event",
    "id": 17,
    "type": "stage.started",
    "level": "info",
    "message": "stage head: trains 1,026 of 11,177,538 parameters, features computed once",
    "data": {"attempt": 1, "stage": "head", "stage_index": 0},
    "created_at": 1767225602.5,
}
CHECKPOINT = {
    "object": "fine_tuning.job.checkpoint",
    "id": "ckpt_0d6y4x2s8k1mjq7w9v5t3hzn",
    "job": JOB["id"],
    "stage": "all",
    "stage_index": 1,
    "epoch": 1,
    "global_epoch": 61,
    "size": 44785941,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "metric": "val_accuracy",
    "value": 0.928,
    "best": True,
    "last": True,
    "created_at": 1767225660.75,
    "exports": {
        "onnx+preprocessing": {
            "size": 44925741,
            "sha256": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
            "largest_difference": 4.2e-07,
            "images": 153,
            "same_data": True,
            "created_at": 1767225900.5,
        }
    },
}
BACKBONE = {
    "object": "backbone",
    "name": "resnet18",
    "source": "torchvision",
    "weights": ["IMAGENET1K_V1"],
    "head": ["fc"],
    "parameters": 11689512,
    "image_size": 224,
    "problem": None,
}
REFUSAL = {
    "error": {
        "message": "stages.0.freeze.module: no module is called 'layr3'; did you mean 'layer3'?",
        "type": "invalid_request_error",
        "param": "stages.0.freeze.module",
        "code": "unknown_module",
        "details": [
            {
                "param": "stages.0.freeze.module",
                "message": "no module is called 'layr3'; did you mean 'layer3'?",
                "code": "unknown_module",
            }
        ],
    }
}


def replaced(node: Any, old: object, new: object) -> Any:
    """The same JSON with one value in the place of another."""
    if isinstance(node, dict):
        return {key: replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [replaced(value, old, new) for value in node]
    return new if node == old else node


def in_json(description: str, example: Any) -> dict[str, Any]:
    """An answer with its example."""
    return {
        "description": description,
        "content": {"application/json": {"example": replaced(example, None, NULL)}},
    }


def refusal(status: int, code: str, message: str) -> Responses:
    """What is answered with that status, with an example."""
    error: dict[str, Any] = {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": code,
        "details": [],
    }
    return {status: in_json("Refused.", {"error": error})}


def listed(item: dict[str, Any], key: str) -> dict[str, Any]:
    """A page with one item, which is known by the field `key`."""
    known_by = str(item[key])
    return {"object": "list", "data": [item], "first_id": known_by, "last_id": known_by, "has_more": False}


spec_body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JobSpec"},
                "examples": {
                    "recipe": {"summary": "A recipe", "value": SPEC},
                    "stages": {"summary": "Stages, a frozen part, two groups", "value": STAGED_SPEC},
                },
            }
        },
    }
}

convert_body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "required": ["text"],
                            "additionalProperties": False,
                            "properties": {"text": {"type": "string", "maxLength": 100_000}},
                        },
                        {
                            "type": "object",
                            "required": ["spec"],
                            "additionalProperties": False,
                            "properties": {"spec": {"type": "object"}},
                        },
                    ]
                },
                "examples": {
                    "text": {"summary": "A text", "value": {"text": "dataset:\n  path: hymenoptera\n"}},
                    "spec": {"summary": "A spec", "value": {"spec": {"dataset": {"path": "hymenoptera"}}}},
                },
            }
        },
    }
}
branch_body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BranchBody"},
                "examples": {
                    "stages": {"summary": "More epochs at other rates, from where it is", "value": BRANCH},
                    "recipe": {"summary": "A recipe, from any checkpoint", "value": RECIPE_BRANCH},
                },
            }
        },
    }
}

unknown: Responses = refusal(404, "not_found", "there is no job job_0")
conflict: Responses = {
    **unknown,
    **refusal(409, "conflict", "job job_5t2cqf1k8m4xw0z7h3nvb9rd is running; only ended jobs can be deleted"),
}
invalid: Responses = {
    **refusal(400, "not_json", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    **refusal(413, "too_large", "the body is longer than 1,000,000 bytes"),
    422: in_json("Every problem of the request.", REFUSAL),
}
job: Responses = {200: in_json("The job.", JOB), **conflict}
quota: Responses = refusal(
    429,
    "quota_jobs",
    "2000 jobs of zoo are queued or paused, and 2000 may be (THAW_OWNER_JOBS): wait until some have run, or "
    "cancel some",
)
job_created: Responses = {
    201: in_json("The job.", {**JOB, "status": "queued", "progress": None, "best": None}),
    **conflict,
    **invalid,
    **quota,
}
branch_created: Responses = {
    **job_created,
    201: in_json(
        "The new job.",
        {
            **JOB,
            "id": "job_8n3v6c1x9z0m2k5j7h4g1f3d",
            "status": "queued",
            "status_reason": "waiting for a worker",
            "started_at": None,
            "progress": None,
            "attempt": 0,
            "worker": None,
            "best": None,
            "dataset_fingerprint": None,
            "parent": JOB["id"],
            "branched_from": "ckpt_0d6y4x2s8k1mjq7w9v5t3hzn",
        },
    ),
}
plan: Responses = {200: in_json("The plan.", PLAN), **invalid}
wrong_parameter: Responses = {422: in_json("A parameter is wrong.", REFUSAL)}
job_list: Responses = {200: in_json("A page of jobs.", listed(JOB, "id")), **wrong_parameter}
metrics: Responses = {200: in_json("Epochs.", listed(EPOCH, "global_epoch")), **unknown, **wrong_parameter}
events: Responses = {
    200: {
        "description": "Events, or a stream of them.",
        "content": {
            "application/json": {"example": listed(EVENT, "id")},
            "text/event-stream": {"example": 'id: 17\nevent: stage.started\ndata: {"object": "…"}\n\n'},
        },
    },
    **unknown,
    **wrong_parameter,
}
checkpoints: Responses = {200: in_json("Checkpoints.", listed(CHECKPOINT, "id")), **unknown}
converted: Responses = {
    200: in_json(
        "The spec and its texts.",
        {
            "object": "spec.text",
            "spec": {"dataset": {"path": "hymenoptera"}},
            "json": '{\n  "dataset": {\n    "path": "hymenoptera"\n  }\n}\n',
            "yaml": "dataset:\n  path: hymenoptera\n",
        },
    ),
    **refusal(400, "not_json", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    **refusal(413, "too_large", "the body is longer than 1,000,000 bytes"),
    **refusal(422, "not_readable", "line 3: 'lr' stands here twice"),
}
CURVE = {
    "object": "job.curve",
    "id": "job_5t2cqf1k8m4xw0z7h3nvb9rd",
    "metric": "val_accuracy",
    "goal": "max",
    "points": [[1, 0.71], [2, 0.84], [3, 0.93]],
}
curves: Responses = {
    200: in_json("Curves, in no particular order.", {"object": "list", "data": [CURVE]}),
    304: {"description": "The client has them already."},
}
loading: Responses = {
    200: in_json(
        "The lines.",
        {
            "object": "fine_tuning.job.loading",
            "language": "python",
            "lines": "import json\n\nimport torch\n…\n",
        },
    ),
    **unknown,
}
_binary = {"schema": {"type": "string", "format": "binary"}}
_file = {"content": {"application/octet-stream": _binary, "application/zip": _binary}}
download: Responses = {
    200: {"description": "The file.", **_file},
    206: {"description": "A part of the file.", **_file},
    304: {"description": "The client has it already."},
    **refusal(404, "not_found", "job job_5t2cqf1k8m4xw0z7h3nvb9rd has no checkpoint 'best'"),
    **refusal(
        409,
        "dataset_gone",
        "the export cannot be proved: its answers are compared with the checkpoint's on the job's validation "
        "images, and there is no dataset 'hymenoptera' below the data root",
    ),
    **refusal(416, "range_not_satisfiable", "the file has 44785941 bytes"),
    **wrong_parameter,
    **refusal(
        429,
        "quota_bytes",
        "zoo may have 1,099,511,627,776 bytes stored here (THAW_OWNER_BYTES): delete jobs that are no longer "
        "needed, replace datasets by smaller ones, or ask the operator for more",
    ),
    **refusal(503, "unavailable", "the export of ckpt_0d6y4x2s8k1mjq7w9v5t3hzn is still being made"),
}
backbones: Responses = {200: in_json("Backbones.", listed(BACKBONE, "name"))}
alive: Responses = {200: in_json("Alive.", {"status": "alive"})}
ready: Responses = {
    200: in_json("Ready.", {"status": "ready"}),
    **refusal(503, "unavailable", "the database does not answer; try again"),
}
prometheus: Responses = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"example": 'thaw_jobs{status="queued"} 2.0\n'}},
    }
}
