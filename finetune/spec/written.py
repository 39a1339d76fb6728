"""Values as text: JSON, and YAML that says only what JSON can say. For specs in files and on pages.

YAML 1.1 reads `1e-3` as text, `no` as false and `12:30` as 750. Learning rates are written as `1e-3`, so
scalars follow YAML 1.2's core schema here; what JSON cannot hold is refused with its line.
"""

import json
import math
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

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
MOST_VALUES = 100_000  # in one text; a few lines of aliases can stand for billions
BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
WIDTH = 100  # characters of a line


class Unreadable(Exception):
    """A text that is none: what is wrong, and in which line, from 1."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


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


class _Dumper(yaml.SafeDumper):
    """Puts quotes around a text that either version of YAML reads as something else."""

    def ignore_aliases(self, data: object) -> bool:
        """Writes out what stands several times: a reader of a spec should not have to look elsewhere."""
        return True


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


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """A text; YAML takes some characters for ends of lines, and folds them unless they stand escaped."""
    style = '"' if BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _quoted)
_Dumper.yaml_implicit_resolvers = {
    first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
for _name in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _unknown)
_Loader.add_constructor(None, _unknown)


def read_json(text: str) -> Any:
    """The value of a JSON text, in which no key stands twice and every number is finite.

    Raises:
        Unreadable: it is none.
    """

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise Unreadable(f"{digits} is no finite number")
        return value

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise Unreadable(f"{twice!r} stands twice in one object")
        return result

    try:
        return _sound(json.loads(text, parse_constant=number, parse_float=number, object_pairs_hook=mapping))
    except json.JSONDecodeError as error:
        raise Unreadable(f"is no JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise Unreadable("is nested too deep") from None
    except ValueError:  # an integer beyond Python's limit
        raise Unreadable("holds a value that JSON cannot say") from None


def read_yaml(text: str) -> Any:
    """The value of a YAML text that says only what JSON can say.

    Raises:
        Unreadable: it is none.
    """
    try:
        return _sound(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "is no YAML"
        raise Unreadable(reason, mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable("has a character that YAML does not allow", line) from None
    except RecursionError:
        raise Unreadable("is nested too deep") from None


def write_json(value: Any) -> str:
    """A value as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_yaml(value: Any) -> str:
    """A value of JSON's kinds as YAML in block style, its keys in their order; `read_yaml` gives it back."""
    written: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
    )
    return written


def _sound(value: Any) -> Any:
    """The value, if it is of a size that can be written out, and has no half characters in it.

    Raises:
        Unreadable: it is not.
        RecursionError: it is nested too deep.
    """
    sizes: dict[int, int] = {}
    if _size(value, sizes) > MOST_VALUES:
        raise Unreadable(f"stands for more than {MOST_VALUES:,} values")
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unreadable("has half of a surrogate pair in a text") from None
    return value


def _size(value: Any, sizes: dict[int, int]) -> int:
    """How many values are in this one, written out. What stands several times is counted once and summed."""
    if not isinstance(value, dict | list):
        return 1
    known = sizes.get(id(value))
    if known is not None:
        if known == 0:
            raise Unreadable("holds itself, which JSON cannot say")
        return known
    sizes[id(value)] = 0  # on the way: whoever meets it now is inside it
    inside = value.values() if isinstance(value, dict) else value
    sizes[id(value)] = size = 1 + sum(_size(one, sizes) for one in inside)
    return size
