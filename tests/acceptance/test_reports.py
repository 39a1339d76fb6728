"""Reports of whole jobs, and success only after the best checkpoint has given its score again."""

import json
import shutil

import httpx
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from client.errors import NotFound

STILL = {"schedule": {"name": "constant", "lr": 0.0}}


@pytest.fixture(scope="module")
def job(client, make_spec, ended):
    job = ended(client, client.submit(make_spec(name="shapes")).id)
    assert job.status == "succeeded", job.error
    return job


def test_the_report_is_of_the_best_checkpoint_and_equals_scikit_learn(client, job, tmp_path):
    report = client.report(job.id)
    path = client.predictions(job.id, tmp_path)
    assert path.name == f"{job.id}-predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    labels, said = [row["label"] for row in rows], [row["prediction"] for row in rows]
    assert report.confusion == confusion_matrix(labels, said, labels=report.classes).tolist()
    assert sum(map(sum, report.matrix)) == len(rows) == report.images == 18
    assert report.figures["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert report.figures["accuracy"] == report.reproduced.again == job.best.value
    assert report.reproduced.difference == 0.0
    assert sum(each.share for each in report.calibration.bins) == pytest.approx(1)
    (best,) = [checkpoint for checkpoint in client.checkpoints(job.id) if checkpoint.best]
    assert (report.checkpoint.global_epoch, report.checkpoint.sha256) == (best.global_epoch, best.sha256)
    assert report.job == job.id


def test_an_event_says_that_the_score_came_again_before_the_job_succeeded(client, job):
    kinds = [event.type for event in client.events(job.id)]
    assert kinds[-2:] == ["job.report", "job.succeeded"]
    event = client.events(job.id)[-2]
    assert event.data["figures"]["accuracy"] == event.data["reproduced"]["again"] == job.best.value
    assert event.data["checkpoint"] == job.best.checkpoint


def test_the_command_prints_the_report_and_writes_the_page_and_the_predictions(thaw, job, command):
    done = thaw.run(command, "report", job.id, "--predictions", "predictions.parquet")
    assert done.returncode == 0, done.stderr
    assert "validation images of shapes" in done.stdout
    page = (thaw.root / f"report-{job.id}.html").read_text()
    assert page.count("<svg") == 4
    assert pq.read_table(thaw.root / "predictions.parquet").num_rows == 18
    printed = thaw.run(command, "report", job.id, "--json")
    assert (
        json.loads(printed.stdout) == httpx.get(f"{thaw.url}/v1/jobs/{job.id}/report", trust_env=False).json()
    )


def test_a_job_that_starts_from_another_reports_on_its_classes(
    client, make_spec, ended, job, thaw, draw_shapes
):
    draw_shapes(thaw.data / "other", classes=("circle", "square", "star"), train=6, val=3)
    weights = {"job": job.id, "checkpoint": "best"}
    spec = make_spec(dataset={"path": "other"}, backbone={"name": "tiny_net", "weights": weights})
    later = ended(client, client.submit(spec).id)
    assert later.status == "succeeded", later.error
    old = client.report(later.id).old_classes
    assert {row.name for row in old.per_class} == {"circle", "square"}
    assert old.images == 6
    for figure in (old.before, old.after_among_old, old.after):
        assert 0 <= figure <= 1
    assert client.report(job.id).old_classes is None


def test_a_range_test_has_none(client, make_spec, ended):
    found = ended(client, client.find_lr(make_spec(range_test={"steps": 10})).id)
    assert found.status == "succeeded"
    with pytest.raises(NotFound, match="trains nothing") as caught:
        client.report(found.id)
    assert caught.value.code == "no_report"


def test_deleting_a_job_deletes_its_report_with_its_files(client, make_spec, ended, thaw):
    gone = ended(client, client.submit(make_spec()).id)
    assert {"report.json", "predictions.parquet"} <= {p.name for p in (thaw.artifacts / gone.id).rglob("*")}
    client.delete(gone.id)
    assert not (thaw.artifacts / gone.id).exists()
    with pytest.raises(NotFound):
        client.report(gone.id)


@pytest.fixture
def best_at_first(make_spec):
    """A job of some seconds that learns in its first epoch and never again: that epoch stays the best."""
    head = {"policy": "backbone"}
    rate = {"schedule": {"name": "constant", "lr": 0.1}}
    stages = [
        {"name": "first", "epochs": 1, "freeze": head, "lr": rate},
        {"name": "idle", "epochs": 16, "freeze": head, "lr": STILL, "augmentation": "light"},
    ]
    return make_spec(backbone={"name": "tiny_slow", "weights": None}, stages=stages)


def wait_for_epochs(client, job, until, count=3):
    until(lambda: len(client.metrics(job)) >= count, 60, f"{count} epochs are done")
    assert client.job(job).status == "running"


@pytest.mark.parametrize("harm", ["damaged", "gone", "exchanged"])
def test_a_best_checkpoint_that_is_harmed_on_disk_fails_the_job(
    client, best_at_first, thaw, until, ended, harm
):
    job = client.submit(best_at_first).id
    wait_for_epochs(client, job, until)
    folder = thaw.artifacts / job / "attempt-1"
    best = folder / "epoch-00001.safetensors"
    if harm == "damaged":
        content = bytearray(best.read_bytes())
        content[-1] ^= 0x40
        best.write_bytes(content)
    elif harm == "gone":
        best.unlink()
    else:
        shutil.copy(max(folder.glob("epoch-*.safetensors")), best)
    failed = ended(client, job)
    assert failed.status == "failed"
    assert failed.error.code == "not_reproduced"
    assert "the best checkpoint (epoch 1, val_accuracy " in failed.error.message
    assert "retry the job" in failed.error.message
    assert str(thaw.root) not in failed.error.message
    with pytest.raises(NotFound, match=r"it failed \(not_reproduced\)"):
        client.report(job)


def test_a_job_that_was_paused_reports_on_the_best_checkpoint_of_its_first_attempt(
    client, best_at_first, thaw, until, ended
):
    job = client.submit(best_at_first).id
    wait_for_epochs(client, job, until)
    with httpx.Client(base_url=thaw.url, trust_env=False) as api:
        assert api.post(f"/v1/jobs/{job}/pause").status_code == 200
        until(lambda: client.job(job).status == "paused", 30, "the job is paused")
        assert api.post(f"/v1/jobs/{job}/resume").status_code == 200
    done = ended(client, job)
    assert (done.status, done.attempt) == ("succeeded", 2), done.error
    report = client.report(job)
    assert report.checkpoint.global_epoch == 1
    assert report.reproduced.difference == 0.0
    names = {
        path.relative_to(thaw.artifacts / job).as_posix() for path in (thaw.artifacts / job).rglob("*.*")
    }
    assert {"attempt-1/epoch-00001.safetensors", "attempt-2/report.json"} <= names
    assert "attempt-1/report.json" not in names
