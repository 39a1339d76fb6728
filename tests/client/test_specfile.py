import io
import sys

import pytest

from client.errors import SpecUnreadable
from client.specfile import parse_spec, read_spec


def from_yaml(text):
    return parse_spec(text, "spec.yaml", is_json=False)


def from_json(text):
    return parse_spec(text, "spec.json", is_json=True)


def test_yaml_and_json_say_the_same():
    yaml_text = "name: ants\nstages:\n  - {epochs: 3, lr: 1.0e-3, on: null, last: true}\n"
    json_text = '{"name": "ants", "stages": [{"epochs": 3, "lr": 0.001, "on": null, "last": true}]}'
    assert from_yaml(yaml_text) == from_json(json_text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("-2", -2),
        ("010", 10),
        (".5", 0.5),
        ("5.", 5.0),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("'2024-01-01'", "2024-01-01"),
        ("none", "none"),
    ],
)
def test_scalars_mean_what_they_look_like(written, value):
    read = from_yaml(f"key: {written}")["key"]
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merge_keys_work():
    text = "base: &base {epochs: 3, lr: 0.1}\nstage:\n  <<: *base\n  lr: 0.2\n"
    assert from_yaml(text)["stage"] == {"epochs": 3, "lr": 0.2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: x\nday: 2024-01-01\n", "line 2: 2024-01-01 is a date"),
        ("name: x\nlr: .nan\n", "line 2: .nan is no finite number"),
        ("name: x\nlr: -.inf\n", "line 2: -.inf is no finite number"),
        ("name: x\nlr: 1e999\n", "line 2: 1e999 is no finite number"),
        ("name: x\nname: y\n", "line 2: 'name' stands here twice"),
        ("name: x\n1: y\n", "line 2: the key '1' is no text"),
        ("name: x\nraw: !!binary aGk=\n", "line 2: !!binary has no counterpart"),
        (
            "name: x\nraw: !!python/object:os.system {}\n",
            "line 2: !!python/object:os.system has no counterpart",
        ),
        ("name: x\nstages: [\n", "line 3"),
        ("name: x\n\tstages: 3\n", "line 2"),
        ("name: x\nbad: \x01\n", "line 2: has a character"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: &a [*a]\n", "JSON cannot say"),
        (f"a: {'9' * 5000}\n", "line 1: a number this long"),
        ("- just\n- a list\n", "a spec is an object"),
        ("", "a spec is an object"),
    ],
)
def test_yaml_that_json_cannot_say_is_refused_with_its_line(text, reason):
    with pytest.raises(SpecUnreadable) as caught:
        from_yaml(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("spec.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,\n"b": }', "line 2: is no JSON"),
        ('{"lr": NaN}', "NaN is no finite number"),
        ('{"lr": -Infinity}', "-Infinity is no finite number"),
        ('{"lr": 1e999}', "1e999 is no finite number"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "a spec is an object"),
        (f'{{"a": {"9" * 5000}}}', "JSON cannot say"),
    ],
)
def test_json_that_is_none_is_refused(text, reason):
    with pytest.raises(SpecUnreadable, match=reason):
        from_json(text)


@pytest.mark.parametrize("name", ["spec.json", "spec.JSON", "spec.yaml", "spec.yml"])
def test_a_file_is_read_by_its_ending(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'\xef\xbb\xbf{"name": "f\xc3\xbcr"}')
    assert read_spec(str(path)) == {"name": "für"}


def test_other_files_are_refused(tmp_path):
    with pytest.raises(SpecUnreadable, match="ends with"):
        read_spec("spec.toml")
    with pytest.raises(SpecUnreadable, match="No such file"):
        read_spec(str(tmp_path / "none.json"))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nname: f\xfcr\n")
    with pytest.raises(SpecUnreadable, match="line 2: is not UTF-8"):
        read_spec(str(latin))


@pytest.mark.parametrize("text", [' {"name": "x"}', "name: x\n"])
def test_standard_input_is_json_or_yaml(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_spec("-") == {"name": "x"}
