import hashlib
import json
import math
import re
import subprocess
import sys
import textwrap

import httpx
import pytest

from app.store.doorbells import Doorbell


@pytest.fixture(scope="module")
def job(client, make_spec, ended):
    """A two-stage job that has succeeded."""
    spec = make_spec(name="shapes", checkpoints={"keep_last": 2, "keep_best": 1})
    job = ended(client, client.submit(spec).id)
    assert job.status == "succeeded", job.error
    return job


def test_epochs_are_counted_once_each_through_both_stages(client, job):
    records = client.metrics(job.id)
    assert [record.global_epoch for record in records] == list(range(1, 8))
    assert [(r.stage, r.stage_index, r.epoch) for r in records] == [
        *(("head", 0, epoch) for epoch in (1, 2, 3)),
        *(("all", 1, epoch) for epoch in (1, 2, 3, 4)),
    ]
    assert {record.attempt for record in records} == {1}
    for record in records:
        assert record.train.loss > 0
        assert 0 <= record.val.accuracy <= 1
        assert record.images_per_second > 0
        assert record.peak_memory_bytes > 0
        assert record.seconds.train > 0


def test_rates_are_those_that_the_plan_shows(client, job, make_spec):
    plan = client.plan(make_spec())
    planned = [row.first for stage in plan.stages for row in stage.lr]
    assert [record.lr for record in client.metrics(job.id)] == planned
    assert planned[3] == {"default": pytest.approx(0.05), "head": pytest.approx(0.2)}
    assert planned[6] == {"default": pytest.approx(0.025), "head": pytest.approx(0.1)}


def test_network_learns(client, job):
    records = client.metrics(job.id)
    assert records[-1].train.loss < records[0].train.loss
    assert job.best.value >= 0.75  # three classes: guessing gives 0.33
    assert job.best.value == max(record.val.accuracy for record in records)


def test_job_holds_its_result(client, job):
    assert job.status_reason == "all stages are done"
    assert (job.attempt, job.error, job.worker) == (1, None, None)
    assert job.created_at <= job.started_at <= job.finished_at
    last = client.metrics(job.id)[-1]
    assert job.result["epochs"] == 7
    assert job.result["val"] == {"loss": last.val.loss, "accuracy": last.val.accuracy}
    assert job.result["best"]["value"] == job.best.value


def test_checkpoints_are_the_kept_ones_and_no_other_file_is_left(client, job, thaw):
    kept = client.checkpoints(job.id)
    assert [checkpoint.global_epoch for checkpoint in kept if checkpoint.last] == [7]
    assert {6, 7} <= {checkpoint.global_epoch for checkpoint in kept}
    (best,) = [checkpoint for checkpoint in kept if checkpoint.best]
    assert best.id == job.best.checkpoint
    assert len(kept) <= 3
    names = {path.name.partition(".")[0] for path in (thaw.artifacts / job.id).rglob("*") if path.is_file()}
    epochs = {f"epoch-{checkpoint.global_epoch:05d}" for checkpoint in kept}
    assert names == epochs | {"report", "predictions"}


@pytest.mark.parametrize("name", ["best", "last"])
def test_download_has_the_sha256_of_its_checkpoint(client, job, tmp_path, name, read_weights):
    (checkpoint,) = [c for c in client.checkpoints(job.id) if getattr(c, name)]
    path = client.download(job.id, name, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == checkpoint.sha256
    assert path.stat().st_size == checkpoint.size
    metadata = read_weights(path).metadata
    assert metadata["backbone"] == "tiny_net"
    assert json.loads(metadata["classes"]) == ["circle", "square", "triangle"]
    assert json.loads(metadata["preprocessing"])["crop"] == 16
    assert (metadata["job"], int(metadata["global_epoch"])) == (job.id, checkpoint.global_epoch)


def test_download_that_broke_off_is_continued(client, job, tmp_path):
    whole = client.download(job.id, "best", tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "rest.safetensors.part").write_bytes(whole[: len(whole) // 2])
    seen = []
    path = client.download(job.id, "best", tmp_path / "rest.safetensors", lambda have, _: seen.append(have))
    assert path.read_bytes() == whole
    assert min(seen) > len(whole) // 2


def test_events_tell_the_way_of_the_job(client, job):
    streamed = list(client.stream_events(job.id))
    assert streamed == client.events(job.id)
    types = [event.type for event in streamed]
    assert types[:2] == ["job.created", "job.running"]
    assert types[-1] == "job.succeeded"
    assert types.count("job.epoch") == 7
    assert types.count("stage.started") == types.count("stage.ended") == 2
    assert any("features computed once" in event.message for event in streamed)


def test_same_spec_gives_the_same_bytes(client, job, make_spec, ended, tmp_path, read_weights):
    again = ended(client, client.submit(make_spec()).id)
    paths = [client.download(one.id, "last", tmp_path / f"{one.id}.safetensors") for one in (job, again)]
    first, second = map(read_weights, paths)
    assert first.bytes == second.bytes


def test_next_job_on_the_dataset_takes_from_the_cache_what_it_shares_with_the_first(
    client, job, make_spec, ended
):
    spec = make_spec()
    spec["stages"][0]["lr"]["schedule"]["lr"] = 0.2
    told = client.events(ended(client, client.submit(spec).id).id)
    (prepared,) = [event for event in told if event.type == "job.prepared"]
    assert prepared.data["images"] == {"decoded": 0, "known": 54}
    (ready,) = [event for event in told if event.type == "stage.features"]
    assert (ready.data["computed"], ready.data["cached"]) == (0, 54)


def test_job_can_be_followed_while_it_runs(client, make_spec, ended, until):
    spec = make_spec(backbone={"name": "tiny_slow", "weights": None})
    lasting = {"epochs": 25, "lr": {"schedule": {"name": "constant", "lr": 0.05}}}  # several heartbeats
    spec["stages"][1] |= lasting
    job = client.submit(spec)
    running = until(lambda: (found := client.job(job.id)).progress and found, 30, "there is progress")
    assert running.status == "running"
    assert running.progress.stages == 2
    assert running.progress.images_per_second > 0
    first = until(lambda: client.metrics(job.id), 30, "there is an epoch")[0]
    assert first.global_epoch == 1
    assert ended(client, job.id).status == "succeeded"


WITHOUT_THAW = """
import os, sys
assert not any(name.partition('.')[0] in ('finetune', 'app', 'client', 'worker') for name in sys.modules)
LINES
assert not any(name.partition('.')[0] in ('finetune', 'app', 'client', 'worker') for name in sys.modules)
"""


def test_downloaded_checkpoint_gives_the_reported_accuracy_with_torchvision_alone(
    client, thaw, make_spec, ended, tmp_path, repository
):
    head, everything = make_spec()["stages"]
    gentle = {"schedule": {"name": "constant", "lr": 0.003}}
    spec = make_spec(
        backbone={"name": "resnet18", "weights": None},
        image_size=32,
        # The head last: random layers behind BatchNorm that has seen no image yet give no sensible features.
        stages=[everything | {"epochs": 5, "lr": gentle.copy()}, head | {"epochs": 2, "lr": gentle}],
    )
    spec["stages"][0]["lr"]["factors"] = [{"modules": ["fc"], "factor": 2.0}]
    job = ended(client, client.submit(spec).id)
    assert job.status == "succeeded", job.error
    client.download(job.id, "best", tmp_path / "best.safetensors")
    lines, *_ = re.findall(
        r"```python\n(.*?)```", (repository / "docs" / "loading.md").read_text(), re.DOTALL
    )
    assert "best.safetensors" in lines
    assert lines.count('"photo.jpg"') == 1
    head, _, tail = lines.partition("image = ImageOps.")
    body = textwrap.indent(f"image = ImageOps.{tail}", "        ").replace('"photo.jpg"', "photo")
    loop = f"""
from pathlib import Path
right, loss, count = 0, 0.0, 0
for label, name in enumerate(classes):
    for photo in sorted(map(str, Path(sys.argv[1], name).iterdir())):
{body}
        right += int(probabilities.argmax()) == label
        loss -= probabilities[label].log().item()
        count += 1
print(json.dumps([right / count, loss / count, count]), file=sys.stderr)
"""
    script = tmp_path / "load.py"
    script.write_text(WITHOUT_THAW.replace("LINES", head + loop))
    found = subprocess.run(
        [sys.executable, "-I", str(script), str(thaw.data / "shapes" / "val")],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    accuracy, loss, count = json.loads(found.stderr.splitlines()[-1])
    report = client.report(job.id)
    assert count == 18
    assert math.isclose(accuracy, report.figures["accuracy"], abs_tol=1e-4)
    assert math.isclose(accuracy, report.reproduced.in_fp32, abs_tol=1e-4)
    assert math.isclose(loss, report.figures["loss"], rel_tol=1e-3)  # an accuracy may agree by chance
    assert report.reproduced.stored == report.reproduced.again == job.best.value


def test_lines_that_load_the_job_s_model_are_given(job, thaw):
    told = httpx.get(f"{thaw.url}/v1/jobs/{job.id}/loading", trust_env=False).json()
    assert told["language"] == "python"
    assert "get_model(" in told["lines"]
    compile(told["lines"], "loading.py", "exec")


def test_worker_rings_at_servers_for_what_it_writes(client, thaw, make_spec, ended):
    bell = Doorbell(thaw.home / "feed-doorbells", "ours")
    try:
        job = client.submit(make_spec(name="shapes"))
        bell.has_rung()  # for the submission; all that follows is the worker's
        assert ended(client, job.id).status == "succeeded"
        assert bell.has_rung()
    finally:
        bell.take_down()
