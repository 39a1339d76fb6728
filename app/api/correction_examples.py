"""The examples of corrections on the OpenAPI page."""

from typing import Any

from app.api.examples import JOB, Responses, in_json, refusal
from app.api.report_examples import IMAGE, absent

body: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/CorrectionsBody"},
                "example": {"labels": {IMAGE["id"]: "bees"}},
            }
        },
    }
}
_MANIFEST = "path,label,split\ntrain/ants/0013035.jpg,ants,train\nval/ants/8398478_50ef10c47a.jpg,bees,val\n"

corrected: Responses = {
    200: {
        "description": f"The file `{JOB['id']}-corrected.csv`.",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": _MANIFEST}},
    },
    **absent,
    **refusal(400, "not_json", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    **refusal(409, "dataset_gone", "the dataset 'hymenoptera' is gone"),
    422: in_json(
        "Labels or images that the dataset does not have, each with its field.",
        {
            "error": {
                "message": f"labels.{IMAGE['id']}: there is no class 'bee'; did you mean 'bees'?",
                "type": "invalid_request_error",
                "param": f"labels.{IMAGE['id']}",
                "code": "unknown_class",
                "details": [
                    {
                        "param": f"labels.{IMAGE['id']}",
                        "message": "there is no class 'bee'; did you mean 'bees'?",
                        "code": "unknown_class",
                    }
                ],
            }
        },
    ),
}
