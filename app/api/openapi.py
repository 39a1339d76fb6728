"""The OpenAPI page: the schemas of what is sent beside FastAPI's."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.examples import NULL, Responses, refusal, replaced
from app.branches import BranchBody
from app.corrections import CorrectionsBody
from app.gate import HOW, OPEN, scope_of
from app.store.scopes import Scope
from app.variants import ExperimentBody
from finetune.spec import JobSpec

REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Puts the schemas of bodies on the application's OpenAPI page; the routes read bodies by themselves."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = get_openapi(title=app.title, version=app.version, routes=app.routes, description=SUMMARY)
            schemas = page.setdefault("components", {}).setdefault("schemas", {})
            for model in (JobSpec, ExperimentBody, BranchBody, CorrectionsBody):
                body = model.model_json_schema(ref_template=REF)
                schemas.update(body.pop("$defs", {}))
                schemas[model.__name__] = body
            schemas["ExperimentBody"]["properties"]["spec"] = {"$ref": REF.format(model="JobSpec")}
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            _add_keys(page)
            schemas["Error"] = ERROR
            _refuse_in_one_shape(page)
            app.openapi_schema = replaced(page, NULL, None)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _refuse_in_one_shape(page: dict[str, Any]) -> None:
    """Gives each call's refusals their schema, and each call those that any may meet.

    FastAPI adds a 422 of its own to calls, some of which never give one; ours are written out.
    """
    for calls in page["paths"].values():
        for call in calls.values():
            answers = call["responses"]
            own = answers.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if own.get("$ref", "").endswith("/HTTPValidationError"):
                del answers["422"]
            for status, answer in answers.items():
                if status.startswith(("4", "5")):
                    answer["content"]["application/json"]["schema"] = {"$ref": REF.format(model="Error")}
            answers["default"] = OTHERWISE


ERROR: dict[str, Any] = {
    "title": "Error",
    "description": "Every refusal. `details` has each problem of an invalid request.",
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "details"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["param", "message", "code"],
                        "additionalProperties": False,
                        "properties": {
                            "param": {"type": ["string", "null"]},
                            "message": {"type": "string"},
                            "code": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}
OTHERWISE: dict[str, Any] = {
    "description": "What any call may be refused with: 400 for what is not HTTP as it should be, 403 for a "
    "page of another origin, 404 or 405 for an address or a method that is none, 408 and 413 for a body that "
    "comes too slowly or is too long, 421 for a foreign Host, 429 for too many requests, 431 for a head that "
    "is too large, 503 for what cannot be answered now. 429 and 503 have the header `Retry-After`.",
    "content": {"application/json": {"schema": {"$ref": REF.format(model="Error")}}},
}


def _add_keys(page: dict[str, Any]) -> None:
    """Says of each call which key it needs, and what is answered without one."""
    page["components"]["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "Made with `thaw keys create`. Not needed where there are no keys.",
        }
    }
    for path, calls in page["paths"].items():
        if path in OPEN:
            continue
        for method, call in calls.items():
            needed = scope_of(method.upper(), path)
            call["security"] = [{SCHEME: [needed]}, {}]  # the second: where there are no keys
            call["responses"] = _refused_keys(needed) | call["responses"]


def _refused_keys(needed: str) -> dict[str, Any]:
    """The refusals of keys; a key that lets somebody in can read."""
    found: Responses = refusal(401, "key_missing", f"this server demands a key: {HOW}")
    if needed != Scope.READ:
        message = f"the key has the scope read, and this call needs {needed}"
        found |= refusal(403, "scope_missing", message)
    return {str(status): answer for status, answer in found.items()}


SCHEME = "key"
SUMMARY = "Fine-tunes image models in stages: job specs in, epochs and checkpoints out."
