"""Which recipe is better, asked of the real server and answered by the real worker."""

import json
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import ttest_rel

from client.errors import NotFound, Refused

VARIANTS: list[dict[str, Any]] = [
    {"name": "two_stage", "patch": {"recipe": {"name": "two_stage", "head_epochs": 2, "full_epochs": 2}}},
    {"name": "joint", "patch": {"recipe": {"name": "joint", "epochs": 3, "lr": 0.05}}},
]


@pytest.fixture(scope="module")
def base(make_spec):
    """A spec that says nothing of stages: the variants do."""
    spec = make_spec(batch_size=12)
    del spec["stages"]
    return spec


@pytest.fixture(scope="module")
def whole(client, base, until):
    """An experiment of two recipes and two seeds that has ended; the last test deletes it."""
    made = client.create_experiment({"name": "which", "spec": base, "variants": VARIANTS, "seeds": [0, 1]})
    return until(lambda: (now := client.experiment(made.id)).ended and now, 180, "the experiment has ended")


def test_the_table_follows_from_the_jobs_own_best_values(client, whole):
    assert whole.status == "succeeded"
    jobs = client.jobs(experiment=whole.id).data
    assert len(jobs) == 4
    values: dict[str, dict[int, float]] = {name: {} for name in ("two_stage", "joint")}
    for job in jobs:
        assert job.best.metric == "val_accuracy"
        values[job.variant][job.spec["seed"]] = job.best.value
        best = max(record.val.accuracy for record in client.metrics(job.id))
        assert job.best.value == best
    for row in whole.table:
        own = values[row.variant]
        assert row.values == own
        assert row.mean == pytest.approx(fmean(own.values()))
        assert row.std == pytest.approx(stdev(own.values()))
        assert (row.n, row.failed) == (2, 0)
    (pair,) = whole.comparisons
    ours, theirs = ([values[name][seed] for seed in (0, 1)] for name in ("two_stage", "joint"))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert pair.mean_difference == pytest.approx(fmean(differences))
    assert pair.std_difference == pytest.approx(stdev(differences))
    if stdev(differences) > 1e-9:
        assert pair.p_value == pytest.approx(ttest_rel(ours, theirs).pvalue)
    else:
        assert pair.p_value == (0.5 if any(differences) else 1.0)
    assert "two_stage" in whole.answer
    assert "joint" in whole.answer


def test_best_epochs_and_times_are_those_of_the_jobs(client, whole):
    for trial in whole.jobs:
        job = client.job(trial.id)
        best = next(c for c in client.checkpoints(trial.id) if c.best)
        assert trial.best_epoch == best.global_epoch
        assert trial.seconds == pytest.approx(job.finished_at - job.started_at)
    for row in whole.table:
        own = [trial for trial in whole.jobs if trial.variant == row.variant]
        assert row.best_epoch == pytest.approx(fmean(trial.best_epoch for trial in own))
        assert row.seconds == pytest.approx(fmean(trial.seconds for trial in own))


def test_a_variant_with_a_seed_is_the_same_run_as_a_job_with_that_spec(client, whole, base, ended):
    trial = next(trial for trial in whole.jobs if (trial.variant, trial.seed) == ("joint", 1))
    job = client.submit({**base, **VARIANTS[1]["patch"], "seed": 1})
    assert ended(client, job.id).best.value == trial.value
    ours, theirs = client.metrics(job.id), client.metrics(trial.id)
    assert [record.train.loss for record in ours] == [record.train.loss for record in theirs]


def test_pairs_end_together(client, whole):
    begun = sorted(whole.jobs, key=lambda trial: client.job(trial.id).started_at)
    assert [(trial.variant, trial.seed) for trial in begun] == [
        ("two_stage", 0),
        ("joint", 0),
        ("two_stage", 1),
        ("joint", 1),
    ]


def test_a_cancelled_experiment_ends_and_both_are_deleted_with_their_artifacts(
    client, whole, base, until, thaw
):
    slow = base | {"backbone": {"name": "tiny_slow", "weights": None}}
    patches = [{"name": name, "patch": {"recipe": {"name": name}}} for name in ("two_stage", "joint")]
    other = client.create_experiment({"spec": slow, "variants": patches, "seeds": [3]})
    until(lambda: client.experiment(other.id).status == "running", 60, "a job of it runs")
    running = client.experiment(other.id).jobs[0].id
    until(lambda: client.metrics(running), 60, "an epoch has ended")
    with pytest.raises(Refused, match="2 jobs have not ended"):
        client.delete_experiment(other.id)
    client.cancel_experiment(other.id)
    until(lambda: client.experiment(other.id).status == "cancelled", 60, "it is cancelled")
    with pytest.raises(Refused, match="has ended and cannot be cancelled"):
        client.cancel_experiment(other.id)
    folders = [thaw.artifacts / trial.id for trial in (*whole.jobs, client.experiment(other.id).jobs[0])]
    assert all(any(folder.iterdir()) for folder in folders)
    for experiment in (whole, other):
        client.delete_experiment(experiment.id)
        with pytest.raises(NotFound):
            client.experiment(experiment.id)
        assert client.jobs(experiment=experiment.id).data == []
    assert not any(folder.exists() for folder in folders)


def test_thaw_compare_runs_it_and_prints_the_table(thaw, base, command):
    path = thaw.root / "base.json"
    path.write_text(json.dumps(base))
    variants = thaw.root / "variants.json"
    variants.write_text(json.dumps(VARIANTS))
    compared = thaw.run(command, "compare", path, "--variants", variants, "--seeds", "0,1", timeout=300)
    assert compared.returncode == 0, compared.stderr
    experiment, *lines = compared.stdout.splitlines()
    assert experiment.startswith("exp_")
    assert sum(" jobs ended, job_" in line for line in lines) == 4
    assert [line.split()[0] for line in lines[4:7]] == ["variant", "two_stage", "joint"]
    shown = thaw.run(command, "experiment", experiment, "--json")
    assert json.loads(shown.stdout)["answer"] == lines[-1]
    assert experiment in thaw.run(command, "experiments").stdout
    refused = thaw.run(command, "cancel", experiment)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_a_variant_that_is_wrong_is_named_on_the_command_line(thaw, base, command):
    path = thaw.root / "base.json"
    path.write_text(json.dumps(base))
    refused = thaw.run(command, "compare", path, "--recipes", "two_stage,jont")
    assert refused.returncode == 2
    assert "variants.1.patch.recipe: unknown name 'jont'; did you mean 'joint'?" in refused.stderr
