"""Reading a job spec from a file, as JSON or as YAML that says only what JSON can say.

YAML 1.1 reads `1e-3` as text, `no` as false and `12:30` as 750. Learning rates are written as `1e-3`, so
scalars follow YAML 1.2's core schema here; what JSON cannot hold is refused with its line.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from client.errors import SpecUnreadable

STDIN = "-"
SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("timestamp", r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", list("0123456789")),
    ("merge", r"<<", ["<"]),
)
"""Tag, pattern and first characters of the unquoted scalars that are no text; the first match counts."""


class _Loader(yaml.SafeLoader):
    """A safe loader of its own: resolvers and constructors are kept on the class."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own shape

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text and stand there once; plain PyYAML keeps the last of several."""
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise _refusal(key, f"the key {key.value!r} is no text; put quotes around it")
            if key.value in seen:
                raise _refusal(key, f"{key.value!r} stands here twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refusal(node: yaml.Node, problem: str) -> ConstructorError:
    return ConstructorError(problem=problem, problem_mark=node.start_mark)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    try:
        return int(text)  # YAML 1.2 has no octal by a leading zero
    except ValueError:
        raise _refusal(node, "a number this long is no number for a spec") from None


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    try:
        value = float(text)
    except ValueError:
        value = math.nan  # .nan and .inf, or a tag that does not fit
    if not math.isfinite(value):
        raise _refusal(node, f"{text} is no finite number")
    return value


def _date(loader: _Loader, node: yaml.ScalarNode) -> None:
    raise _refusal(node, f"{loader.construct_scalar(node)} is a date in YAML; put quotes around it")


def _unknown(_loader: _Loader, node: yaml.Node) -> None:
    raise _refusal(node, f"{node.tag.replace('tag:yaml.org,2002:', '!!')} has no counterpart in JSON")


for _name, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
for _name in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _unknown)
_Loader.add_constructor(None, _unknown)


def read_spec(source: str) -> dict[str, Any]:
    """Reads a spec from a `.json`, `.yaml` or `.yml` file, or from standard input for `-`.

    Standard input is JSON where it starts with a brace, YAML otherwise.

    Raises:
        SpecUnreadable: naming the file and, where there is one, the line.
    """
    return _spec(_read(source, "{"), "standard input" if source == STDIN else source)


def read_variants(source: str) -> list[Any]:
    """Reads an experiment's variants, a list of objects with `name` and `patch`, as `read_spec` does.

    Raises:
        SpecUnreadable: naming the file and, where there is one, the line.
    """
    value = _read(source, "[")
    if not isinstance(value, list):
        raise SpecUnreadable(source, "variants are a list of objects with `name` and `patch` in them")
    return value


def read_patch(source: str) -> dict[str, Any]:
    """Reads a merge patch of a spec, an object with the fields that differ, as `read_spec` does.

    Raises:
        SpecUnreadable: naming the file and, where there is one, the line.
    """
    value = _read(source, "{")
    if not isinstance(value, dict):
        name = "standard input" if source == STDIN else source
        raise SpecUnreadable(name, "a patch is an object with the fields of the spec that differ")
    return value


def parse_spec(text: str, source: str, *, is_json: bool) -> dict[str, Any]:
    """Reads a spec from text; `source` is what errors call it."""
    return _spec(_parse(text, source, is_json=is_json), source)


def _spec(value: object, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecUnreadable(source, "a spec is an object with `dataset`, `backbone` and `stages` in it")
    return value


def _parse(text: str, source: str, *, is_json: bool) -> object:
    try:
        value = _from_json(text, source) if is_json else yaml.load(text, _Loader)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "is no YAML"
        raise SpecUnreadable(source, reason, mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecUnreadable(source, "has a character that YAML does not allow", line) from None
    except json.JSONDecodeError as error:
        raise SpecUnreadable(source, f"is no JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise SpecUnreadable(source, "is nested too deep") from None
    except UnicodeEncodeError:
        raise SpecUnreadable(source, "has half of a surrogate pair in a text") from None
    except ValueError:
        # Of YAML's values only one that holds itself gets here; of JSON's an integer beyond Python's limit.
        raise SpecUnreadable(source, "holds a value that JSON cannot say") from None
    return value


def _read(source: str, opening: str) -> object:
    """The value in a file, or on standard input, where `opening` is what a value in JSON begins with."""
    if source == STDIN:
        text = _decode(sys.stdin.buffer.read(), "standard input")
        return _parse(text, "standard input", is_json=text.lstrip().startswith(opening))
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise SpecUnreadable(source, "a spec's file name ends with .json, .yaml or .yml")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecUnreadable(source, error.strerror or "cannot be read") from None
    return _parse(_decode(data, source), source, is_json=suffix == ".json")


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecUnreadable(source, "is not UTF-8", line) from None


def _from_json(text: str, source: str) -> object:
    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise SpecUnreadable(source, f"{digits} is no finite number")
        return value

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SpecUnreadable(source, f"{twice!r} stands twice in one object")
        return result

    return json.loads(text, parse_constant=number, parse_float=number, object_pairs_hook=mapping)
