"""Looking for a rate with the real worker: the range test trains nothing and leaves a curve."""

import json

import pytest

from finetune.spec import JobSpec

pytestmark = pytest.mark.skipif(
    "range_test" not in JobSpec.model_fields, reason="this version's jobs have no range test"
)


def test_find_lr_leaves_a_curve_and_no_checkpoint(client, make_spec, ended):
    job = ended(
        client, client.find_lr(make_spec(range_test={"start_lr": 1e-5, "end_lr": 10.0, "steps": 30})).id
    )
    assert job.status == "succeeded", job.error
    found = job.result["range_test"]
    assert set(found) >= {"stage", "curve", "suggestion", "reason", "diverged_at"}
    assert found["stage"] == "head"
    assert found["reason"]
    rates = [point["lr"] for point in found["curve"]]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-5)
    assert len(rates) == 30 or found["diverged_at"] is not None
    assert all(set(point) >= {"step", "lr", "loss", "smoothed"} for point in found["curve"])
    assert client.checkpoints(job.id) == []
    assert client.metrics(job.id) == []


def test_thaw_find_lr_prints_the_curve_and_the_suggestion(thaw, make_spec, command):
    path = thaw.root / "find.json"
    path.write_text(json.dumps(make_spec(range_test={"steps": 20})))
    found = thaw.run(command, "find-lr", path)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["lr", "loss", "smoothed"]
    assert lines[1].split()[0] == "1e-06"
    assert any(line.startswith("stage head: ") for line in lines)
    as_json = thaw.run(command, "find-lr", path, "--json")
    assert json.loads(as_json.stdout)["stage"] == "head"


def test_a_range_test_cannot_be_part_of_an_experiment(client, make_spec):
    spec = make_spec(range_test={})
    body = {"spec": spec, "variants": [{"name": "a", "patch": {}}]}
    with pytest.raises(Exception, match="an experiment compares runs that train"):
        client.create_experiment(body)
