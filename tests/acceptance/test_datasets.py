"""Datasets by the command line, from a folder on this side to a job on the other."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hymenoptera"


@pytest.fixture
def mine(draw_shapes, tmp_path) -> Path:
    """A folder of images that lies nowhere near the server."""
    folder: Path = draw_shapes(tmp_path / "my images", train=6, val=3)
    return folder


def test_a_folder_is_uploaded_checked_and_trained_on(thaw, command, mine, client, make_spec, ended):
    sent = thaw.run(command, "upload", "uploaded", mine)
    assert (sent.returncode, sent.stdout) == (0, "uploaded\n"), sent.stderr
    assert "error" not in sent.stderr
    assert "uploaded" in thaw.run(command, "datasets").stdout
    shown = thaw.run(command, "dataset", "uploaded")
    assert shown.returncode == 0, shown.stdout
    assert "uploaded: 27 images, 3 classes" in shown.stdout
    job = client.submit(make_spec(dataset={"path": "uploaded"}))
    assert ended(client, job.id).status == "succeeded"


def test_damaged_files_are_named_and_a_mended_dataset_takes_the_place(thaw, command, mine, tmp_path):
    damaged = mine / "train" / "square" / "train-001.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:200])
    (mine / "val" / "circle" / "text.jpg").write_text("no image")
    sent = thaw.run(command, "upload", "mended", mine)
    assert sent.returncode == 0
    for name in ("train/square/train-001.png", "val/circle/text.jpg"):
        assert name in sent.stderr
    checked = thaw.run(command, "dataset", "mended", "--json")
    assert checked.returncode == 1
    found: dict[str, Any] = json.loads(checked.stdout)
    named = {file for one in found["problems"] if one["severity"] == "error" for file in one["files"]}
    assert named == {"train/square/train-001.png", "val/circle/text.jpg"}

    damaged.write_bytes(whole)
    (mine / "val" / "circle" / "text.jpg").unlink()
    archive = shutil.make_archive(str(tmp_path / "mended"), "zip", mine.parent, mine.name)
    again = thaw.run(command, "upload", "mended", archive)
    assert again.returncode == 1
    assert "there is a dataset 'mended' already" in again.stderr
    replaced = thaw.run(command, "upload", "mended", archive, "--replace")
    assert replaced.returncode == 0, replaced.stderr
    shown = thaw.run(command, "dataset", "mended")
    assert shown.returncode == 0, shown.stdout
    assert sorted(path.name for path in (thaw.data / "mended").iterdir()) == ["train", "val"]


def test_an_archive_that_climbs_is_refused_and_leaves_nothing(thaw, command, tmp_path):
    before = sorted(path.name for path in thaw.data.iterdir())
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"1")
        archive.writestr("../../evil.jpg", b"2")
    refused = thaw.run(command, "upload", "evil", tmp_path / "evil.zip")
    assert refused.returncode == 2
    assert refused.stderr == "thaw: '../../evil.jpg' leads out of the archive's own folder\n"
    assert sorted(path.name for path in thaw.data.iterdir()) == before
    assert not list(thaw.root.parent.rglob("evil.jpg"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_an_upload_whose_sender_is_killed_at_half_leaves_nothing(thaw, tmp_path, until):
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"a/{number}.jpg", os.urandom(5_000_000))
    content = (tmp_path / "large.zip").read_bytes()
    before = sorted(path.name for path in thaw.data.iterdir())
    send = ["curl", "-s", "--noproxy", "*", "-T", "-", f"{thaw.url}/v1/datasets/killed"]
    sender = subprocess.Popen(send, stdin=subprocess.PIPE)
    assert sender.stdin is not None
    sender.stdin.write(content[: len(content) // 2])
    sender.stdin.flush()
    until(lambda: (thaw.data / ".upload-killed").exists(), what="the upload has begun")
    sender.kill()
    sender.communicate()
    until(lambda: sorted(path.name for path in thaw.data.iterdir()) == before, what="nothing is left")


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not here")
def test_the_placeholder_among_the_photographs_is_named(thaw, command):
    sent = thaw.run(command, "upload", "photographs", PHOTOGRAPHS)
    assert sent.returncode == 0, sent.stderr
    shown = thaw.run(command, "dataset", "photographs")
    assert "train/ants/imageNotFound.gif" in shown.stdout
    assert "photographs: 398 images, 2 classes" in shown.stdout
