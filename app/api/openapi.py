"""The OpenAPI page: the spec's own schema beside FastAPI's."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from finetune.spec import JobSpec

REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Makes the application's OpenAPI page hold the schema of job specs, which the routes read by themselves."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = get_openapi(title=app.title, version=app.version, routes=app.routes, description=SUMMARY)
            spec = JobSpec.model_json_schema(ref_template=REF)
            schemas = page.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(spec.pop("$defs", {}))
            schemas["JobSpec"] = spec
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = page
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


SUMMARY = "Fine-tunes image models in stages: job specs in, epochs and checkpoints out."
