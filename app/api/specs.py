"""Specs as text: JSON and YAML, both ways."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api import examples
from app.api.bodies import JsonBody
from app.errors import Invalid
from finetune.spec import Problem, written

router = APIRouter(prefix="/v1/specs", tags=["jobs"])

LONGEST = 100_000  # characters; reading YAML takes a second for so many
CODE = "not_readable"


class SpecTextAnswer(BaseModel):
    """A spec and its texts. Whether it is sound, the plan says."""

    object: Literal["spec.text"] = "spec.text"
    spec: dict[str, Any]
    json_: str = Field(serialization_alias="json")
    yaml: str


@router.post(
    "/convert",
    response_model=SpecTextAnswer,
    openapi_extra=examples.convert_body,
    responses=examples.converted,
)
def convert(body: JsonBody) -> SpecTextAnswer:
    """A spec from its text, JSON or YAML, or from itself; and both texts of it. Nothing is stored.

    YAML may say only what JSON can say: no tags, no dates, no key twice. A text that begins with a brace is
    JSON.
    """
    spec = _spec_of(body)
    return SpecTextAnswer(spec=spec, json_=written.write_json(spec), yaml=written.write_yaml(spec))


def _spec_of(body: Any) -> dict[str, Any]:
    match body:
        case {"spec": dict(spec), **rest} if not rest:
            return spec
        case {"text": str(text), **rest} if not rest:
            return _read(text)
    message = "send an object with `text`, a spec as JSON or YAML, or with `spec`, a spec as an object"
    raise Invalid([Problem(None, message, "not_convertible")])


def _read(text: str) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise Invalid([Problem("text", f"has more than {LONGEST:,} characters", "too_long")])
    try:
        value = written.read_json(text) if text.lstrip().startswith("{") else written.read_yaml(text)
    except written.Unreadable as error:
        raise Invalid([Problem("text", str(error), CODE)]) from error
    if not isinstance(value, dict):
        message = "a spec is an object with `dataset`, `backbone` and `stages` in it"
        raise Invalid([Problem("text", message, CODE)])
    return value
