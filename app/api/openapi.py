"""The OpenAPI page: the schemas of what is sent beside FastAPI's."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.examples import NULL, Responses, refusal, replaced
from app.branches import BranchBody
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
            for model in (JobSpec, ExperimentBody, BranchBody):
                body = model.model_json_schema(ref_template=REF)
                schemas.update(body.pop("$defs", {}))
                schemas[model.__name__] = body
            schemas["ExperimentBody"]["properties"]["spec"] = {"$ref": REF.format(model="JobSpec")}
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            _drop_foreign_refusals(page)
            _add_keys(page)
            app.openapi_schema = replaced(page, NULL, None)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _drop_foreign_refusals(page: dict[str, Any]) -> None:
    """Takes away the 422 that FastAPI adds to calls that never give one; ours are written out."""
    for calls in page["paths"].values():
        for call in calls.values():
            content = call["responses"].get("422", {}).get("content", {})
            if (
                content.get("application/json", {})
                .get("schema", {})
                .get("$ref", "")
                .endswith("/HTTPValidationError")
            ):
                del call["responses"]["422"]


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
