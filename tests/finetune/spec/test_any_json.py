"""Whatever JSON a client sends: problems or a spec, and never another exception."""

import json

from hypothesis import HealthCheck, given, settings

from finetune.lr import unusable_rate
from finetune.recipes import resolve
from finetune.spec import JobSpec, find_problems
from tests.anything import JSON, SPECS, mutated


def check(body):
    problems = find_problems(body)
    for problem in problems:
        assert problem.message
        assert problem.code
        json.dumps([problem.param, problem.message], ensure_ascii=False).encode()  # as an answer is sent
    if problems:
        return
    resolved = resolve(JobSpec.model_validate(body), lambda: ["stem", "body", "head"])
    stored = json.loads(json.dumps(resolved.model_dump(mode="json"), allow_nan=False))
    assert find_problems(stored) == []
    again = resolve(JobSpec.model_validate(stored), lambda: ["stem", "body", "head"])
    assert again == resolved
    assert again.model_dump(mode="json") == stored
    names = [stage.name for stage in resolved.stages]
    assert len(set(names)) == len(names)
    assert None not in names
    for stage in resolved.stages:
        unusable_rate(stage)


@given(JSON)
@settings(deadline=None, max_examples=200)
def test_any_json_gives_problems_or_a_spec(body):
    check(body)


@given(SPECS)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_parses_resolves_and_what_is_stored_parses_to_the_same(body):
    check(body)


@given(mutated())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_a_spec_with_anything_anywhere_gives_problems_or_a_spec(body):
    check(body)


def test_a_number_of_five_thousand_digits_is_a_problem_and_no_crash():
    body = {
        "dataset": {"path": "a"},
        "backbone": {"name": "b"},
        "recipe": {"name": "joint"},
        "seed": 10**5000,
    }
    (problem,) = find_problems(body)
    assert (problem.param, "a huge number" in problem.message) == ("seed", True)
