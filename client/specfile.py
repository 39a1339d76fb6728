"""Reading a job spec from a file or from standard input, as JSON or as YAML: see `finetune.spec.written`."""

import sys
from pathlib import Path
from typing import Any

from client.errors import SpecUnreadable
from finetune.spec import written

STDIN = "-"


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
        return written.read_json(text) if is_json else written.read_yaml(text)
    except written.Unreadable as error:
        raise SpecUnreadable(source, error.reason, error.line) from None


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
