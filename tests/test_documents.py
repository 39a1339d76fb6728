"""What the documents say is what the program does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.settings import PREFIX, Settings
from finetune.spec import JobSpec, StageSpec, find_problems

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROW = re.compile(r"^\| `(THAW_\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def test_the_readme_lists_every_setting_with_its_meaning():
    written = {name: meaning for name, _, meaning in ROW.findall(README)}
    assert written == {
        PREFIX + name.upper(): field.description for name, field in Settings.model_fields.items()
    }


def test_the_readme_gives_the_defaults_that_the_program_has():
    written = {name: default for name, default, _ in ROW.findall(README)}
    for name, field in Settings.model_fields.items():
        default = written[PREFIX + name.upper()]
        if default.startswith("`./"):
            assert default == f"`./{field.default}`"
        elif default.startswith("`"):
            assert (
                default == f"`{field.default:g}`"
                if isinstance(field.default, float)
                else f"`{field.default}`"
            )
        else:  # said in words, as it depends on the machine or on other settings
            assert field.default_factory is not None or field.default == ()


def _choices(schema):
    """The names of all kinds of parts (`{"const": "cosine"}`) that a spec's schema allows."""
    if isinstance(schema, dict):
        if isinstance(schema.get("const"), str):
            yield schema["const"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _choices(part)


def test_the_readme_tells_of_every_field_and_every_choice_of_a_spec():
    rows = "".join(line for line in README.splitlines() if line.startswith("| "))
    for part in (StageSpec, JobSpec):
        assert [name for name in part.model_fields if not re.search(rf"`{name}[`.]", rows)] == []
    choices = sorted(set(_choices(JobSpec.model_json_schema())))
    assert {"randaugment", "lion", "gradual", "focal", "before"} <= set(choices)
    assert [name for name in choices if not re.search(rf"`\W*{name}\W*`", rows)] == []


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_an_example_spec_is_valid(file):
    assert find_problems(yaml.safe_load(file.read_text())) == []


def test_the_specs_in_the_readme_are_valid():
    posted = re.search(r"cat > job.json <<'END'\n(.*?)\nEND", README, re.DOTALL)
    assert posted is not None
    assert find_problems(json.loads(posted[1])) == []
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    assert shown
    assert [find_problems(spec) for spec in shown] == [[] for _ in shown]


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
)
def test_every_link_to_a_file_leads_to_one(document):
    file = ROOT / document
    for target in re.findall(r"\]\((?!http)([^)#]+)", file.read_text()):
        assert (file.parent / target).exists(), target


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"^thaw ([\w-]+)", README, re.MULTILINE))
    assert commands
    for command in sorted(commands):
        subprocess.run(
            [sys.executable, "-m", "client", command, "--help"], cwd=ROOT, check=True, capture_output=True
        )
