"""The examples on the OpenAPI page for datasets."""

from typing import Any

from app.api.examples import Responses, in_json, listed, refusal, wrong_parameter

DATASET: dict[str, Any] = {
    "object": "dataset",
    "name": "hymenoptera",
    "classes": ["ants", "bees"],
    "multi_label": False,
    "counts": {"train": {"ants": 124, "bees": 121}, "val": {"ants": 70, "bees": 83}},
    "images": 398,
    "sizes": {"smallest": [120, 98], "median": [500, 375], "largest": [2048, 1536]},
    "problems": [
        {
            "kind": "not_an_image",
            "severity": "error",
            "message": "1 file is no image that can be read: mend it or remove it",
            "files": ["train/ants/imageNotFound.gif"],
            "count": 1,
        }
    ],
    "fingerprint": "5f6a1c0e9b7d4a2c8e3f1b5d7a9c0e2f",
    "check": {"status": "done", "done": 398, "total": 398, "checked_at": 1767225600.5, "message": None},
}
LISTED = {**DATASET, "sizes": None, "problems": [], "fingerprint": None, "check": None}

unknown: Responses = refusal(
    404, "not_found", "there is no dataset 'hymenopter' below the data root; did you mean 'hymenoptera'?"
)
datasets: Responses = {200: in_json("Datasets.", listed(LISTED, "name"))}
dataset: Responses = {
    200: in_json("The dataset.", DATASET),
    304: {"description": "The client has it already."},
    **unknown,
    **wrong_parameter,
}
upload: dict[str, Any] = {
    "status_code": 201,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    "responses": {
        200: in_json("The dataset, which is there instead of the one before.", DATASET),
        201: in_json(
            "The dataset.",
            {**LISTED, "check": {**DATASET["check"], "status": "running", "done": 0, "checked_at": None}},
        ),
        **refusal(400, "bad_request", "the connection broke before all of the archive was here"),
        **refusal(403, "uploads_off", "this server takes no uploads: THAW_UPLOAD_BYTES is 0"),
        **refusal(408, "timed_out", "the body came too slowly: within 60 seconds, then 1,000 bytes a second"),
        **refusal(
            409,
            "dataset_exists",
            "there is a dataset 'hymenoptera' already: take another name, or replace it "
            "(?replace=true, --replace)",
        ),
        **refusal(413, "archive_too_large", "the archive has more than 1,000,000 files and folders"),
        **refusal(422, "archive_invalid", "'../ants/1.jpg' leads out of the archive's own folder"),
        **refusal(507, "disk_full", "there is no room for the dataset on the server's disk"),
    },
}
