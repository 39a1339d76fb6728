"""Whole runs on data with problems, and on data that changes while they wait."""

import json
import shutil

import pytest
import safetensors.torch
from safetensors import safe_open

from finetune.checkpoint import Resume
from finetune.errors import DatasetInvalid
from finetune.events import FilesSkipped, RunStarted, Warned
from finetune.trained import read_about


@pytest.fixture
def root(data_dir, tmp_path):
    """A data root of one's own to spoil."""
    shutil.copytree(data_dir, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def spec(job):
    return job(dataset={"path": "loose", "on_problem": "skip"})


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def shas(told, events):
    return [checkpoint.sha256 for checkpoint in told.checkpoints(events)]


def test_skipping_damaged_files_gives_the_bytes_of_a_run_that_never_saw_them(run, told, spec, root, tmp_path):
    clean = run(spec, tmp_path / "clean", data_dir=root)
    assert of(clean, FilesSkipped) == []
    (root / "loose" / "red" / "04b.png").write_bytes((root / "loose" / "red" / "04.png").read_bytes()[:300])
    (root / "loose" / "blue" / "notes.txt").write_text("no image")
    spoilt = run(spec, tmp_path / "spoilt", data_dir=root)
    assert of(spoilt, FilesSkipped) == [
        FilesSkipped({"unreadable": ("red/04b.png",), "not_an_image": ("blue/notes.txt",)})
    ]
    assert shas(told, spoilt) == shas(told, clean)
    (plan,) = [event.plan for event in of(spoilt, RunStarted)]
    assert plan["images"] == {"train": 24, "val": 6}


def test_what_a_check_warns_of_is_said_when_the_run_begins(job, run, root, tmp_path):
    shutil.copy(root / "hues" / "train" / "red" / "00.png", root / "hues" / "val" / "red" / "copy.png")
    events = run(job(), tmp_path / "run", data_dir=root)
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[1], Warned)
    assert "1 image to train on the same as images of validation: train/red/00.png is val/red/copy.png" in (
        events[1].message
    )


def test_the_fingerprint_is_told_and_stands_in_every_checkpoint(job, run, told, root, tmp_path):
    events = run(job(checkpoints={"keep_last": 9}), tmp_path / "run", data_dir=root)
    (started,) = of(events, RunStarted)
    assert len(started.fingerprint) == 64
    for checkpoint in told.checkpoints(events):
        with safe_open(checkpoint.weights, "pt") as file:
            assert file.metadata()["dataset"] == started.fingerprint
        assert read_about(checkpoint.weights)["dataset"] == started.fingerprint
    shutil.copy(root / "hues" / "val" / "red" / "00.png", root / "hues" / "train" / "red" / "more.png")
    (other,) = of(run(job(), tmp_path / "other", data_dir=root), RunStarted)
    assert other.fingerprint != started.fingerprint


def test_a_checkpoint_from_before_data_had_fingerprints_can_be_read(run, job, told, tmp_path):
    path = told.checkpoints(run(job(), tmp_path / "run"))[-1].weights
    with safe_open(path, "pt") as file:
        metadata = {name: text for name, text in file.metadata().items() if name != "dataset"}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata)
    assert read_about(path)["classes"] == json.loads(metadata["classes"])


@pytest.fixture
def broken_off(job, run, told, root, tmp_path):
    """A checkpoint of a run after its first epoch."""
    first = told.checkpoints(run(job(), tmp_path / "run", data_dir=root, keep_all=True))[0]
    return Resume(first.weights, first.state)


def test_a_run_does_not_go_on_with_other_data(job, run, root, broken_off, tmp_path):
    path = root / "hues" / "train" / "red" / "00.png"
    before = path.read_bytes()
    path.write_bytes((root / "hues" / "train" / "red" / "01.png").read_bytes())
    with pytest.raises(DatasetInvalid) as invalid:
        run(job(), tmp_path / "rest", data_dir=root, resume=broken_off)
    assert "the data of 'hues' changed since the run began" in invalid.value.message
    assert "put back what was there, or begin anew with another job" in invalid.value.message
    assert invalid.value.param == "dataset.path"
    assert not (tmp_path / "rest").exists()
    path.write_bytes(before)
    assert run(job(), tmp_path / "rest", data_dir=root, resume=broken_off)


def test_a_run_goes_on_with_the_same_data_copied_anew(job, run, told, root, broken_off, tmp_path):
    shutil.copytree(root, tmp_path / "moved")
    whole = run(job(), tmp_path / "whole", data_dir=root)
    rest = run(job(), tmp_path / "rest", data_dir=tmp_path / "moved", resume=broken_off)
    assert shas(told, rest) == shas(told, whole)[1:]
