"""Data with problems, through the whole house: named, refused, left out, and pinned."""

import shutil
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from finetune.data.checking import check_dataset

NAMES = {
    "unreadable": "train/ants/half.jpg",
    "not_an_image": "train/ants/notes.jpg",
    "placeholder": "train/ants/imageNotFound.gif",
    "near_leak": "train/bees/003.jpg",
}


def spoil(pets: Path) -> Path:
    """Adds a placeholder, half a JPEG, a text named .jpg, and a copy re-encoded under another name."""
    ants = pets / "train" / "ants"
    notice = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(notice).text((60, 140), "this image could not be found", fill="grey")
    notice.save(ants / "imageNotFound.gif")
    (ants / "half.jpg").write_bytes((ants / "000.jpg").read_bytes()[:1500])
    (ants / "notes.jpg").write_text("they are ants")
    with Image.open(pets / "train" / "bees" / "003.jpg") as image:
        image.save(pets / "val" / "bees" / "another name.jpg", quality=60)
    return pets


@pytest.fixture(scope="module")
def pets(thaw, draw_photographs):
    """A dataset with a file of each kind."""
    return spoil(draw_photographs(thaw.data / "pets", train=10, val=4))


@pytest.fixture
def submit(client, make_spec, ended):
    """Trains on the dataset to the job's end."""

    def job(path="pets", **dataset):
        return ended(client, client.submit(make_spec(dataset={"path": path, **dataset})).id)

    return job


def test_check_names_each_file_with_its_kind(thaw, pets):
    check = check_dataset(thaw.data, "pets", None)
    assert {problem.kind: problem.files[0] for problem in check.problems} == NAMES
    assert check.problems[-2].files == ("train/bees/003.jpg", "val/bees/another name.jpg")


def test_job_that_fails_on_problems_names_all_of_them(submit, pets, thaw, client):
    job = submit(on_problem="fail")
    assert (job.status, job.error.code, job.error.param) == ("failed", "dataset_invalid", "dataset.path")
    for kind, name in NAMES.items():
        assert f"{kind}: {name} (" in job.error.message or f"{kind}: {name};" in job.error.message
    assert "near_leak: train/bees/003.jpg (is val/bees/another name.jpg)" in job.error.message
    assert str(thaw.root) not in job.error.message
    assert (job.dataset_fingerprint, client.metrics(job.id)) == (None, [])


def test_job_that_says_nothing_fails_on_what_cannot_be_decoded_alone(submit, pets):
    job = submit()
    assert (job.status, job.error.code) == ("failed", "dataset_invalid")
    assert all(NAMES[kind] in job.error.message for kind in ("unreadable", "not_an_image"))
    assert "placeholder" not in job.error.message
    assert "leak" not in job.error.message


def test_job_that_skips_trains_and_says_what_it_left_out(submit, pets, client, thaw):
    job = submit(on_problem="skip")
    assert job.status == "succeeded"
    (event,) = [event for event in client.events(job.id) if event.type == "dataset.skipped"]
    assert event.level == "warning"
    assert event.data["counts"] == dict.fromkeys(NAMES, 1)
    assert event.data["files"] == {kind: [name] for kind, name in NAMES.items()}
    assert all(name in event.message for name in NAMES.values())
    (prepared,) = [event for event in client.events(job.id) if event.type == "job.prepared"]
    assert sum(prepared.data["images"].values()) == 32


def test_other_problems_are_told_as_warnings(submit, pets, client, thaw, make_spec):
    shutil.copytree(pets, thaw.data / "mended-pets")
    for kind in ("unreadable", "not_an_image"):
        (thaw.data / "mended-pets" / NAMES[kind]).unlink()
    job = submit("mended-pets")
    assert job.status == "succeeded"
    warnings = [event.message for event in client.events(job.id) if event.type == "warning"]
    assert any(NAMES["placeholder"] in message for message in warnings)
    assert any("train/bees/003.jpg is val/bees/another name.jpg" in message for message in warnings)


def test_data_of_a_job_is_pinned_and_stands_in_its_checkpoints(
    submit, pets, client, thaw, tmp_path, read_weights, command
):
    job = submit(on_problem="skip")
    check = check_dataset(thaw.data, "pets", thaw.home / "checks")
    assert job.dataset_fingerprint == check.fingerprint
    assert (check.opened, check.known) == (0, 32)  # the worker has opened them
    path = client.download(job.id, "best", tmp_path / "best.safetensors")
    assert read_weights(path).metadata["dataset"] == check.fingerprint
    assert check.fingerprint in thaw.run(command, "status", job.id).stdout


def test_job_does_not_go_on_with_data_that_changed_meanwhile(
    rough, worker, draw_photographs, make_spec, until, ended
):
    pets = draw_photographs(rough.data / "changing", train=6, val=3)
    client = rough.client
    stage = {"epochs": 60, "lr": {"schedule": {"name": "constant", "lr": 0.01}}}
    spec = make_spec(
        dataset={"path": "changing"}, backbone={"name": "tiny_slow", "weights": None}, stages=[stage]
    )
    job = client.submit(spec)
    worker()
    until(lambda: client.metrics(job.id), 60, "an epoch has ended")
    address = f"{rough.url}/v1/jobs/{job.id}"
    assert httpx.post(f"{address}/pause", trust_env=False).json()["status"] == "pausing"
    until(lambda: client.job(job.id).status == "paused", 30, "the job is paused")
    pinned = client.job(job.id).dataset_fingerprint
    (pets / "train" / "ants" / "000.jpg").unlink()
    httpx.post(f"{address}/resume", trust_env=False).raise_for_status()
    failed = ended(client, job.id)
    assert (failed.status, failed.error.code) == ("failed", "dataset_invalid")
    assert "the data of 'changing' changed since the run began" in failed.error.message
    assert failed.dataset_fingerprint == pinned
