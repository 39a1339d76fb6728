"""The examples of predictions on the OpenAPI page."""

from typing import Any

from app.api.examples import CHECKPOINT, JOB, Responses, in_json, refusal, unknown

PREDICTIONS: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "object": "prediction",
            "index": 0,
            "file": "bee.jpg",
            "classes": [
                {"class": "bees", "probability": 0.9871},
                {"class": "ants", "probability": 0.0129},
            ],
            "labels": None,
            "embedding": None,
        }
    ],
    "job": JOB["id"],
    "checkpoint": CHECKPOINT["id"],
    "backbone": "resnet18",
    "kind": "classes",
    "seconds": {"decode": 0.0021, "model": 0.0334},
}
UNREADABLE = {
    "error": {
        "message": "images.1: bee.jpg cannot be read as an image: image file is truncated",
        "type": "invalid_request_error",
        "param": "images.1",
        "code": "image_invalid",
        "details": [
            {
                "param": "images.1",
                "message": "bee.jpg cannot be read as an image: image file is truncated",
                "code": "image_invalid",
            }
        ],
    }
}
_file = {"schema": {"type": "string", "format": "binary"}}

body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as it is (`curl --data-binary @bee.jpg`), or a form with several "
        "(`curl -F images=@bee.jpg -F images=@ant.jpg`).",
        "content": {
            "image/*": _file,
            "application/octet-stream": _file,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 64,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
        },
    }
}
predicted: Responses = {
    200: in_json("A prediction for each image.", PREDICTIONS),
    **refusal(400, "not_a_form", "the form breaks off before its last boundary"),
    **unknown,
    **refusal(408, "timed_out", "the body did not arrive within 120 seconds"),
    **refusal(409, "weights_incompatible", f"the file of checkpoint {CHECKPOINT['id']} is damaged"),
    **refusal(413, "too_large", "an image may have at most 33,554,432 bytes"),
    **refusal(415, "unsupported_media_type", "send one image as it is, or several as files of a form"),
    422: in_json("Images that cannot be read, or none, or too many.", UNREADABLE),
    **refusal(503, "unavailable", "the predictor is busy; try again"),
}
