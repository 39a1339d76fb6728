"""What is wrong with a spec, one record a problem, with the path of the field in the request."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune.spec.base import ONE_OF


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the field (`stages.0.lr.schedule.name`), a sentence, and a stable code."""

    param: str | None
    message: str
    code: str


def closest(name: str, known: Iterable[str]) -> str:
    """A phrase that names the known names nearest to `name`, or a few known ones where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    if not known:
        return "there are none here"
    listed = ", ".join(sorted(known)[:8])
    return f"known: {listed}{', …' if len(known) > 8 else ''}"


def problems_of(error: ValidationError, field_names: Iterable[str]) -> list[Problem]:
    """Pydantic's errors as problems, in the order of the request's fields."""
    names = sorted(set(field_names))
    return [
        Problem(param=path_of(detail["loc"]), message=_message(detail, names), code=detail["type"])
        for detail in error.errors(include_url=False)
    ]


def path_of(loc: tuple[int | str, ...]) -> str | None:
    """The field's path with dots; the tags of unions (written `<tag>` in our models) are no fields."""
    return ".".join(str(part) for part in loc if not is_tag(part)) or None


def is_tag(part: int | str) -> bool:
    """Whether a part of a location is the tag of a union rather than a field or an index."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def _message(detail: ErrorDetails, field_names: list[str]) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown field; {closest(str(detail['loc'][-1]), field_names)}"
    if kind == "missing":
        return "is required"
    if kind in ("model_type", "dict_type"):
        return "should be a JSON object"
    if kind in ("unknown_name", "unknown_policy"):
        return _choice_message(given, kind.removeprefix("unknown_"), detail["msg"])
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if isinstance(given, bool | int | float | str) and kind != "value_error":
        shown = repr(given) if not isinstance(given, int) or given.bit_length() < 200 else "a huge number"
        message += f" (got {shown if len(shown) <= 60 else shown[:57] + '…'})"
    return message


def _choice_message(given: Any, key: str, message: str) -> str:
    chosen = given.get(key) if isinstance(given, dict) else None
    if not isinstance(given, dict):
        return f"should be an object: {message}"
    if not isinstance(chosen, str):
        return message
    return f"unknown {key} {chosen[:60]!r}; {closest(chosen, message.partition(ONE_OF)[2].split(', '))}"
