"""The examples of reports on the OpenAPI page."""

from typing import Any

from app.api.examples import CHECKPOINT, JOB, Responses, in_json, listed, refusal

REPORT: dict[str, Any] = {
    "object": "fine_tuning.job.report",
    "kind": "one_label",
    "job": JOB["id"],
    "objective": "cross_entropy",
    "checkpoint": {"stage": "all", "global_epoch": 61, "sha256": CHECKPOINT["sha256"]},
    "dataset": {"name": "hymenoptera", "fingerprint": "5f4dcc3b5aa765d61d8327deb882cf99"},
    "classes": ["ants", "bees"],
    "images": 153,
    "nonfinite": 0,
    "reproduced": {
        "metric": "val_accuracy",
        "stored": 0.9281045751633987,
        "again": 0.9281045751633987,
        "difference": 0.0,
        "precision": "bf16",
        "in_fp32": 0.9281045751633987,
    },
    "figures": {
        "accuracy": 0.9281045751633987,
        "top_5_accuracy": None,
        "loss": 0.2134,
        "macro_f1": 0.9277,
        "balanced_accuracy": 0.9284,
    },
    "per_class": [
        {"name": "ants", "precision": 0.9155, "recall": 0.9286, "f1": 0.922, "support": 70},
        {"name": "bees", "precision": 0.939, "recall": 0.9277, "f1": 0.9333, "support": 83},
    ],
    "confusion": [[65, 5], [6, 77]],
    "calibration": {
        "error": 0.0312,
        "count": 153,
        "bins": [
            {
                "low": 0.9,
                "high": 1.0,
                "count": 119,
                "share": 0.7778,
                "mean_confidence": 0.981,
                "accuracy": 0.9748,
            }
        ],
    },
    "mistake_count": 11,
    "mistakes": [
        {
            "file": "val/ants/8398478_50ef10c47a.jpg",
            "label": "ants",
            "prediction": "bees",
            "probability": 0.9871,
            "probability_of_label": 0.0129,
        }
    ],
    "old_classes": {
        "images": 70,
        "before": 0.9571,
        "after_among_old": 0.9571,
        "after": 0.9286,
        "per_class": [
            {
                "name": "ants",
                "support": 70,
                "before": 0.9571,
                "after_among_old": 0.9571,
                "after": 0.9286,
                "change": -0.0286,
            }
        ],
    },
}

absent: Responses = refusal(
    404,
    "no_report",
    f"job {JOB['id']} has no report: it is running, and a report is made when all stages are done",
)
_parts: Responses = {
    304: {"description": "The client has it already."},
    **absent,
    **refusal(416, "range_not_satisfiable", "the file has 28941 bytes"),
}
_parquet = {"content": {"application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}}}}
report: Responses = {
    200: in_json("The report.", REPORT),
    206: {"description": "A part of the file.", "content": {"application/json": {"schema": {}}}},
    **_parts,
}
predictions: Responses = {
    200: {"description": "The file.", **_parquet},
    206: {"description": "A part of the file.", **_parquet},
    **_parts,
}
IMAGE: dict[str, Any] = {
    "object": "report.image",
    "id": "img_0c5f8a1b2d7e4f6a9b3c8d51",
    "dataset": "hymenoptera",
    "file": "val/ants/8398478_50ef10c47a.jpg",
    "label": "ants",
    "prediction": "bees",
    "probability": 0.9871,
    "probability_of_label": 0.0129,
    "mistake": None,
    "neighbour": None,
    "neighbour_id": None,
    "distance": None,
}
images: Responses = {
    200: in_json("A page of images.", listed(IMAGE, "id")),
    **absent,
    **refusal(422, "unknown_class", "label: there is no class 'ant'; did you mean 'ants'?"),
}
