import json
import os
import time

import pytest

from app.orphans import DAY, find_orphans, remove_orphans
from app.store.checkpoints import list_checkpoints
from app.store.exports import record_export
from app.store.ids import new_id

NOW = time.time()


@pytest.fixture
def artifacts(settings):
    return settings.artifacts_dir


@pytest.fixture
def write(artifacts):
    """Writes a file below the artifacts that was last changed so long before `NOW`, as were its folders."""

    def write(path, before=2 * DAY, content=b"left"):
        file = artifacts / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        for changed in (file, *file.parents[: len(file.relative_to(artifacts).parents) - 1]):
            os.utime(changed, (NOW - before, NOW - before))
        return path

    return write


@pytest.fixture
def look(db, artifacts):
    return lambda now=NOW: {orphan.path: orphan.size for orphan in find_orphans(db, artifacts, now)}


@pytest.fixture
def clean(db, settings):
    def clean(now):
        gone = remove_orphans(db, settings.artifacts_dir, settings.orphans_file, now)
        return {orphan.path for orphan in gone}

    return clean


def _age(folder, before=2 * DAY):
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (NOW - before, NOW - before))


def test_what_rows_name_is_no_orphan(db, leave_job, artifacts, write, look):
    job = leave_job((0.5, 0.7))
    (first, _) = list_checkpoints(db, job)
    path = write(f"{job}/exports/{first.id}-onnx.zip")
    record_export(db, first.id, "onnx", {"path": path, "size": 4, "sha256": "0" * 64})
    _age(artifacts / job)
    assert look() == {}


def test_files_of_an_ended_job_that_no_row_names_are_orphans(leave_job, artifacts, write, look):
    job = leave_job()
    _age(artifacts / job)
    left = {
        write(f"{job}/attempt-1/.epoch-00002.safetensors.tmp"): 4,
        write(f"{job}/attempt-1/epoch-00002.state.pt", content=b"state of nothing"): 16,
        write(f"{job}/exports/ckpt_1-onnx.making/model.onnx"): 4,
    }
    assert look() == left


def test_the_folder_of_a_job_without_a_row_is_one_orphan(write, look):
    job = new_id("job")
    write(f"{job}/attempt-1/epoch-00001.safetensors")
    write(f"{job}/attempt-2/epoch-00001.safetensors")
    assert look() == {job: 8}


@pytest.mark.promise("What is being written now is never taken for something left over")
def test_what_may_still_be_written_is_no_orphan(leave_job, artifacts, write, look):
    running, ended, unknown = leave_job(status=None), leave_job(), new_id("job")
    _age(artifacts / running)
    _age(artifacts / ended)
    write(f"{running}/attempt-1/epoch-00002.safetensors")  # whose row is about to be written
    write(f"{ended}/exports/ckpt_1-onnx.zip", before=DAY - 60)  # an export that has just been made
    write(f"{unknown}/attempt-1/epoch-00001.safetensors")
    write(f"{unknown}/attempt-1/epoch-00002.safetensors", before=60)  # a late worker still writes here
    assert look() == {}


def test_what_is_not_a_jobs_is_left_alone(write, look):
    for path in ("notes.txt", "job_1/file", "mine/file", f"{new_id('exp')}/file"):
        write(path)
    assert look() == {}


def test_a_link_among_the_jobs_is_not_followed(artifacts, tmp_path, look):
    (tmp_path / "outside").mkdir()
    (artifacts / new_id("job")).symlink_to(tmp_path / "outside")
    assert look() == {}


@pytest.mark.promise("Artifacts without a row are removed a day after they are first seen; nothing else is")
def test_an_orphan_is_removed_a_day_after_it_was_first_seen(leave_job, artifacts, write, clean, settings):
    job, unknown = leave_job((0.5,)), new_id("job")
    _age(artifacts / job, 10 * DAY)
    left = write(f"{job}/exports/ckpt_1-onnx.making/model.onnx", before=10 * DAY)
    write(f"{unknown}/attempt-1/epoch-00001.safetensors", before=10 * DAY)
    assert clean(NOW) == set()
    assert clean(NOW + DAY - 60) == set()
    assert (artifacts / left).exists()
    kept = write(f"{job}/attempt-1/later.tmp", before=5 * DAY)
    assert clean(NOW + DAY + 60) == {left, unknown}
    assert not (artifacts / unknown).exists()
    assert not (artifacts / job / "exports").exists()  # which was empty then
    assert len(list((artifacts / job / "attempt-1").iterdir())) == 3
    assert json.loads(settings.orphans_file.read_text()) == {kept: NOW + DAY + 60}


def test_an_orphan_that_gets_its_row_is_forgotten(db, leave_job, artifacts, write, clean):
    job = leave_job()
    _age(artifacts / job, 10 * DAY)
    (checkpoint,) = list_checkpoints(db, job)
    path = write(f"{job}/exports/{checkpoint.id}-onnx.zip", before=10 * DAY)
    assert clean(NOW) == set()
    record_export(db, checkpoint.id, "onnx", {"path": path, "size": 4, "sha256": "0" * 64})
    assert clean(NOW + 2 * DAY) == set()
    assert (artifacts / path).exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', "{"])
def test_damaged_notes_begin_anew(write, clean, settings, content):
    job = new_id("job")
    write(f"{job}/file", before=10 * DAY)
    settings.orphans_file.write_text(content)
    assert clean(NOW + 3 * DAY) == set()
    assert clean(NOW + 5 * DAY) == {job}


def test_a_home_without_artifacts_has_no_orphans(db, tmp_path):
    assert find_orphans(db, tmp_path / "nowhere", NOW) == []
