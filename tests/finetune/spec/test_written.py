import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.spec.written import MOST_VALUES, Unreadable, read_json, read_yaml, write_json, write_yaml

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [
        "1e-3",
        "no",
        "~",
        "null",
        "2024-01-01",
        "12:30",
        "0o7",
        "010",
        "<<",
        "- a",
        "a: b",
        "#",
        "'",
        ".inf",
        "=",
        "\x85",
        "a\u2028b",
    ]
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back_as_it_was(value):
    assert read_yaml(write_yaml(value)) == value
    assert read_json(write_json(value)) == value
    assert json.dumps(read_yaml(write_yaml(value))) == json.dumps(
        value
    )  # 1 is not 1.0, and keys keep their order


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    for read in (read_json, read_yaml):
        with suppress(Unreadable):
            json.dumps(read(text), allow_nan=False)


def test_lines_of_aliases_that_stand_for_billions_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(Unreadable, match=f"more than {MOST_VALUES:,} values"):
        read_yaml("\n".join(lines))


def test_aliases_within_reason_are_read():
    assert read_yaml("a: &a {lr: 1e-3}\nb: *a\nc: {<<: *a, epochs: 2}") == {
        "a": {"lr": 0.001},
        "b": {"lr": 0.001},
        "c": {"lr": 0.001, "epochs": 2},
    }


def test_value_that_holds_itself_is_refused():
    with pytest.raises(Unreadable, match="holds itself"):
        read_yaml("&a [*a]")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2", 2),
        ("a: [1,\n", 2),
        ("a: !!python/name:os.system", 1),
        ("when: 2024-01-01", 1),
        ("a: .nan", 1),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_line(text, line):
    with pytest.raises(Unreadable) as refused:
        read_yaml(text)
    assert refused.value.line == line
    assert str(refused.value).startswith(f"line {line}: ")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 5000 + "a", '{"a":' * 100_000])
def test_depth_without_end_is_refused(text):
    for read in (read_json, read_yaml):
        with pytest.raises(Unreadable):
            read(text)
