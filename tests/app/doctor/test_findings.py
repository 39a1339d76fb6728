"""What each part of the examination finds, in places that were made ill for it."""

import http.server
import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from sqlalchemy import text, update

from app.doctor import artifacts, database, device, folders, jobs, server, versions
from app.store import controls, tables
from app.store.attempts import claim
from app.store.checkpoints import list_checkpoints
from app.store.database import Database
from app.store.doorbells import Doorbell
from app.store.ids import new_id
from app.store.jobs import create_job
from tests.databases import only_sqlite


def _wrong(found):
    return [(finding.level, finding.message) for finding in found if finding.level != "ok"]


def _only(found):
    (finding,) = (finding for finding in found if finding.level != "ok")
    assert finding.remedy
    return finding


@pytest.fixture
def ask(db, settings):
    return lambda **changes: list(jobs.look(db, settings.model_copy(update=changes)))


@pytest.fixture
def age(db):
    """Lets all jobs have been made, and all events have happened, so many seconds earlier."""

    def shift(seconds):
        with db.write() as connection:
            for table in (tables.jobs, tables.events):
                connection.execute(update(table).values(created_at=table.c.created_at - seconds))

    return shift


def test_jobs_that_go_on_are_well(db, ask):
    create_job(db, spec={}, resolved_spec={})
    create_job(db, spec={}, resolved_spec={})
    claim(db, "w1", 600)
    (finding,) = ask()
    assert (finding.level, finding.message) == ("ok", "1 run, 1 wait, 0 workers on this machine")


def test_a_job_whose_worker_is_gone_and_that_nobody_takes_back_is_told(db, ask):
    job, _ = create_job(db, spec={}, resolved_spec={})
    claim(db, "w1", -100)
    assert _wrong(ask(lease_seconds=200)) == []  # whoever sweeps may still do it
    finding = _only(ask(lease_seconds=30))
    assert finding.level == "error"
    assert f"nobody takes back {job.id} (running, 100 seconds)" in finding.message


def test_a_job_that_does_not_stop_is_told(db, ask, age):
    job, _ = create_job(db, spec={}, resolved_spec={})
    claim(db, "w1", 600)
    controls.cancel_job(db, job.id)
    assert _wrong(ask()) == []
    age(3 * 3600)
    finding = _only(ask())
    assert f"{job.id} (cancelling, 3 hours) should stop" in finding.message
    assert finding.remedy == "restart the worker w1"


def test_jobs_that_wait_for_a_worker_that_is_not_there_are_told(db, settings, ask, age):
    job, _ = create_job(db, spec={}, resolved_spec={})
    assert _wrong(ask()) == []
    age(300)
    assert f"1 wait, the next one ({job.id}) for 5 minutes" in _only(ask()).message
    bell = Doorbell(settings.doorbells_dir, "w1")
    assert _wrong(ask()) == []
    bell.take_down()
    os.mkfifo(settings.doorbells_dir / "dead")
    (settings.doorbells_dir / "file").touch()
    assert _only(ask()).level == "warning"


def test_files_that_rows_name_and_that_are_gone_are_told(db, settings, leave_job):
    job = leave_job((0.5, 0.7))
    assert _wrong(artifacts.look(db, settings)) == []
    first, second = list_checkpoints(db, job)
    (settings.artifacts_dir / first.path).unlink()
    (settings.artifacts_dir / str(second.state_path)).write_bytes(b"st")
    finding = _only(artifacts.look(db, settings))
    assert finding.level == "error"
    assert first.path in finding.message
    assert str(second.state_path) in finding.message
    assert second.path not in finding.message


def test_files_that_no_row_names_are_told(db, settings, monkeypatch):
    file = settings.artifacts_dir / new_id("job") / "attempt-1" / "epoch-00001.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert _wrong(artifacts.look(db, settings)) == []
    later = time.time() + 2 * 86_400
    monkeypatch.setattr("time.time", lambda: later)
    finding = _only(artifacts.look(db, settings))
    assert finding.message == f"1 files or folders (7 bytes) belong to no row, as {file.parts[-3]}"


def test_a_database_of_another_version_is_told(db, settings):
    assert _wrong(database.look(db, settings.database_url)) == []
    with db.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = list(database.look(db, settings.database_url))
    assert "another version" in _only(found).message
    assert not database.can_be_read(found)
    with db.write() as connection:  # PostgreSQL's is everybody's
        connection.execute(text("DELETE FROM alembic_version"))


@only_sqlite
def test_a_damaged_file_is_told(db, settings, leave_job, tmp_path):
    for _ in range(20):
        leave_job()
    db.dispose()
    file = tmp_path / "thaw.db"
    with file.open("r+b") as damaged:
        damaged.seek(file.stat().st_size // 2)
        damaged.write(b"\xff" * 8192)
    finding = _only(database.look(db, settings.database_url))
    assert finding.level == "error"
    assert "restore the newest backup" in str(finding.remedy)


@only_sqlite
def test_a_row_that_refers_to_none_is_told(db, settings, leave_job, tmp_path):
    leave_job()
    with closing(sqlite3.connect(tmp_path / "thaw.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM jobs")  # without foreign keys, as a hand that slips does it
    assert "refers to none of jobs" in _only(database.look(db, settings.database_url)).message


@only_sqlite
def test_a_file_that_is_no_database_is_told(settings, tmp_path):
    (tmp_path / "thaw.db").write_text("Dear diary, " * 1000)
    db = Database(settings.database_url)
    finding = _only(database.look(db, settings.database_url))
    assert "not a database" in finding.message
    db.dispose()


@only_sqlite
def test_a_log_that_grows_is_told(db, settings, monkeypatch):
    monkeypatch.setattr(database, "MOST_LOG", 1000)
    create_job(db, spec={}, resolved_spec={})
    assert "thaw.db-wal has " in _only(database.look(db, settings.database_url)).message


@only_sqlite
def test_a_file_on_a_networks_disk_is_told(db, settings, tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(database, "MOUNTS", mounts)
    assert "(nfs4)" in _only(database.look(db, settings.database_url)).message


def test_a_postgresql_that_does_not_answer_is_told_without_its_password(tmp_path):
    url = f"postgresql+psycopg://nobody:secret@/none?host={tmp_path}"
    db = Database(url)
    finding = _only(database.look(db, url))
    assert finding.remedy == "start PostgreSQL, or mend THAW_DATABASE_URL"
    assert "secret" not in finding.message
    db.dispose()


def test_folders_that_are_not_there_are_told(settings, monkeypatch):
    monkeypatch.setattr(folders, "LITTLE", 0)
    found = list(folders.look(settings))
    assert [level for level, _ in _wrong(found)] == ["warning", "warning"]
    assert any(f"there is no folder {settings.data_dir}" in message for _, message in _wrong(found))


def test_a_home_that_cannot_be_written_to_is_told(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "LITTLE", 0)
    (tmp_path / "file").touch()
    for folder in (settings.data_dir, settings.weights_dir):
        folder.mkdir(exist_ok=True)
    found = list(folders.look(settings.model_copy(update={"home_dir": tmp_path / "file" / "home"})))
    assert {level for level, _ in _wrong(found)} == {"error"}
    assert all("cannot be written to" in message for _, message in _wrong(found))


def test_little_room_is_told(settings, monkeypatch):
    monkeypatch.setattr(folders, "LITTLE", 2**62)
    found = [finding for finding in folders.look(settings) if "GiB are free" in finding.message]
    assert [finding.level for finding in found] == ["warning"]
    assert "THAW_CHECKPOINT_DAYS" in str(found[0].remedy)


def test_a_torch_that_crashes_is_told(settings, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    finding = _only(device.look(settings))
    assert finding.level == "error"
    assert "exit code 1" in finding.message


def test_a_torch_that_hangs_is_told(settings, tmp_path, monkeypatch):
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(hanging))
    monkeypatch.setattr(device, "SECONDS", 0.3)
    assert "more than 0.3 seconds" in _only(device.look(settings)).message


def test_packages_that_are_missing_or_too_old_are_told(monkeypatch):
    wanted = ["torch>=99", "no-such-package-of-anyone", "neither; extra == 'dev'", "pydantic>=2"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    (finding,) = (found for found in versions.look("postgresql://db/thaw") if found.level != "ok")
    assert finding.level == "error"
    assert "and Thaw needs >=99" in finding.message
    assert "no-such-package-of-anyone is not installed" in finding.message
    assert "pydantic" not in finding.message
    assert "neither" not in finding.message


def test_sqlites_fault_is_told(monkeypatch):
    monkeypatch.setattr(versions, "warning_of", lambda url: "SQLite 3.40.1 can: update")
    (finding,) = (found for found in versions.look("sqlite:///thaw.db") if found.level != "ok")
    assert finding.message == "SQLite 3.40.1 can"
    assert "3.51.3" in str(finding.remedy)


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # what http.server calls
        self.send_error(404)

    def log_message(self, *arguments):
        pass


def test_another_program_at_the_servers_address_is_told(settings):
    stranger = http.server.HTTPServer(("127.0.0.1", 0), _Stranger)
    threading.Thread(target=stranger.serve_forever).start()
    try:
        finding = server.look(settings.model_copy(update={"port": stranger.server_port}))
    finally:
        stranger.shutdown()
        stranger.server_close()
    assert finding.level == "error"
    assert "no Thaw server" in finding.message
