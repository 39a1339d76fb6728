import pytest

from app.store.artifacts import _FILES, files_of_jobs, stored_files
from app.store.checkpoints import list_checkpoints
from app.store.exports import record_export
from app.store.job_reports import record_report
from app.store.records import NewCheckpoint, NewReport
from app.store.reports import record_epoch
from app.store.tables import metadata


def test_every_column_that_names_a_file_is_known():
    columns = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if column.name == "path" or column.name.endswith("_path")
    }
    assert columns == {(table.name, path) for table, path, *_ in _FILES}


@pytest.fixture
def trained(db, post, take):
    """A job with one of each kind of file."""
    post(priority=1000)
    held = take()
    folder = f"{held.job_id}/attempt-1"
    new = NewCheckpoint(f"{folder}/a", 1, "a" * 64, f"{folder}/b", 2, "b" * 64)
    place = {"stage": "all", "stage_index": 0, "epoch": 1, "global_epoch": 1}
    record_epoch(db, held, 60, place, new)
    report = NewReport(f"{folder}/a", f"{folder}/c", 3, "c" * 64, f"{folder}/d", 4, "d" * 64)
    record_report(db, held, 60, report, "ready", {})
    return held.job_id


def test_the_files_of_a_job_are_those_of_its_rows(db, post, trained):
    other = post()
    (checkpoint,) = list_checkpoints(db, trained)
    record_export(db, checkpoint.id, "onnx", {"path": f"{trained}/exports/e", "size": 5, "sha256": "e" * 64})
    found = files_of_jobs(db, [trained, other.id, "job_none"])
    assert set(found) == {trained, other.id}
    folder = f"{trained}/attempt-1"
    expected = {f"{folder}/{name}" for name in "abcd"} | {f"{trained}/exports/e"}
    assert found[trained].paths == expected
    assert not found[trained].ended
    assert found[other.id].paths == frozenset()


def test_stored_files_have_sizes_and_hashes_and_are_no_exports(db, trained):
    (checkpoint,) = list_checkpoints(db, trained)
    record_export(db, checkpoint.id, "onnx", {"path": f"{trained}/exports/e", "size": 5, "sha256": "e" * 64})
    with db.read() as connection:
        found = {
            (file.path.rpartition("/")[2], file.size, file.sha256[0]) for file in stored_files(connection)
        }
    assert found == {("a", 1, "a"), ("b", 2, "b"), ("c", 3, "c"), ("d", 4, "d")}
