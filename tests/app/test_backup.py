import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, select, text

from app import backup
from app.backup import back_up
from app.store import copies
from app.store.attempts import claim
from app.store.checkpoints import list_checkpoints
from app.store.copies import CopyFailed
from app.store.database import Database
from app.store.jobs import create_job, get_job
from app.store.migrate import is_current
from app.store.tables import attempts, checkpoints, epochs, events, jobs
from tests.databases import find_program, only_sqlite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def restore(request, url, tmp_path):
    """Brings a backup back as docs/operating.md says, into a new place; gives the database."""
    opened: list[Database] = []

    def bring_back(file):
        if url.startswith("sqlite"):
            home = tmp_path / f"restored-{len(opened)}"
            home.mkdir()
            shutil.copyfile(file, home / "thaw.db")
            new = f"sqlite:///{home / 'thaw.db'}"
        else:
            new = _new_database(request.getfixturevalue("postgresql"))
            address = make_url(new).set(drivername="postgresql").render_as_string()
            command = [
                find_program("pg_restore"),
                "--no-owner",
                "--exit-on-error",
                f"--dbname={address}",
                file,
            ]
            subprocess.run(command, check=True)
        db = Database(new)
        opened.append(db)
        return db

    yield bring_back
    for db in opened:
        db.dispose()


def _new_database(cluster):
    engine = create_engine(cluster.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS restored WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE restored"))
    engine.dispose()
    return cluster.url("restored")


def _check(db, kept):
    """Holds a restored database against what one transaction always leaves together."""
    assert is_current(db)
    with db.read() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        told = Counter(
            connection.execute(select(events.c.job_seq).where(events.c.type == "job.epoch")).scalars()
        )
        assert told == Counter(connection.execute(select(epochs.c.job_seq)).scalars())
        found = connection.execute(select(jobs.c.seq, jobs.c.status, jobs.c.best)).all()
        outcomes = dict(iter(connection.execute(select(attempts.c.job_seq, attempts.c.outcome))))
        files = connection.execute(select(checkpoints.c.id, checkpoints.c.path, checkpoints.c.sha256)).all()
    for seq, status, best in found:
        assert (status == "succeeded") == (outcomes.get(seq) == "succeeded")
        assert best is None or best["checkpoint"] in {row.id for row in files}
    for row in files:
        assert hashlib.sha256((kept / row.path).read_bytes()).hexdigest() == row.sha256
    job, _ = create_job(db, spec={}, resolved_spec={}, priority=1000)  # and Thaw goes on with it
    held = claim(db, "w", 60)
    assert held is not None
    assert held.job_id == job.id
    return len(found)


@pytest.mark.promise("A backup made while Thaw works is consistent, and can be restored")
def test_backups_under_write_load_all_restore(url, settings, traffic, restore, tmp_path, long, tried):
    number = 50 if long or url.startswith("sqlite") else 3
    kept, files = tmp_path / "kept", [tmp_path / "backups" / str(n) for n in range(number)]
    with traffic(writers=3) as said:
        for file in files:
            assert back_up(settings, file, kept).lost == ()
    assert [answer for process in said for answer in process["refused"]] == []
    assert sum(process["done"]["epochs"] for process in said) >= number, "there was no load"
    sizes = [_check(restore(file), kept) for file in files]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0], "nothing was written between the backups"
    tried(number)


def test_a_backup_has_the_database_and_the_files_that_it_names(db, settings, leave_job, restore, tmp_path):
    job = leave_job((0.5, 0.7))
    (settings.artifacts_dir / job / "attempt-1" / "left.tmp").write_bytes(b"left")
    made = back_up(settings, tmp_path / "copy", tmp_path / "kept")
    assert (made.files, made.new_files, made.new_bytes, made.lost) == (4, 4, 24, ())
    assert made.database_bytes == (tmp_path / "copy").stat().st_size
    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 4
    assert get_job(restore(tmp_path / "copy"), job) == get_job(db, job)
    again = back_up(settings, tmp_path / "again", tmp_path / "kept")
    assert (again.files, again.new_files) == (4, 0)


def test_a_backup_of_the_database_alone_touches_no_files(settings, leave_job, tmp_path):
    leave_job()
    made = back_up(settings, tmp_path / "backups" / "copy")
    assert (made.files, made.new_files, made.lost) == (0, 0, ())
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["copy"]


def test_what_a_backup_that_was_killed_has_left_goes_with_a_later_one(settings, leave_job, tmp_path):
    job = leave_job()
    old, young = (settings.artifacts_dir / f".backup-{name}" for name in ("old", "young"))
    for left in (old, young):
        left.mkdir()
    os.utime(old, (0, 0))
    back_up(settings, tmp_path / "copy", tmp_path / "kept")
    assert {path.name for path in settings.artifacts_dir.iterdir()} == {job, young.name}


def test_nobody_else_can_read_a_backup(settings, tmp_path):
    back_up(settings, tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600


@only_sqlite
def test_a_backup_is_one_file_that_needs_no_log_beside_it(settings, tmp_path):
    back_up(settings, tmp_path / "backups" / "copy")
    with closing(sqlite3.connect(tmp_path / "backups" / "copy")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["copy"]


def test_a_file_that_is_dropped_meanwhile_lets_the_database_be_copied_again(
    db, settings, leave_job, restore, tmp_path, monkeypatch
):
    job = leave_job((0.5, 0.7), status=None)
    first, second = list_checkpoints(db, job)
    copy = copies.copy_database

    def copy_and_drop(url, target, keep):
        def drop_and_keep(files):
            with db.write() as connection:  # as a worker does just before the files are copied
                connection.execute(checkpoints.delete().where(checkpoints.c.id == first.id))
            for path in (first.path, first.state_path):
                (settings.artifacts_dir / path).unlink(missing_ok=True)
            keep(files)

        copy(url, target, drop_and_keep)

    monkeypatch.setattr(backup, "copy_database", copy_and_drop)
    assert back_up(settings, tmp_path / "copy", tmp_path / "kept").lost == ()
    assert [checkpoint.id for checkpoint in list_checkpoints(restore(tmp_path / "copy"), job)] == [second.id]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_files_that_are_lost_are_named_and_the_rest_is_kept(settings, leave_job, tmp_path, damage):
    job = leave_job((0.5, 0.7))
    lost = f"{job}/attempt-1/epoch-00001.safetensors"
    if damage == "gone":
        (settings.artifacts_dir / lost).unlink()
    else:
        (settings.artifacts_dir / lost).write_bytes(b"Weights")
    made = back_up(settings, tmp_path / "copy", tmp_path / "kept")
    assert (made.files, made.new_files, made.lost) == (4, 3, (lost,))
    assert not (tmp_path / "kept" / lost).exists()
    assert (tmp_path / "copy").exists()


def test_a_file_of_another_history_under_the_same_name_is_copied_anew(settings, leave_job, tmp_path):
    job = leave_job(content=b"weights")
    file = tmp_path / "kept" / job / "attempt-1" / "epoch-00001.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"WEIGHTS")
    back_up(settings, tmp_path / "copy", tmp_path / "kept")
    assert file.read_bytes() == b"weights"


def test_an_existing_file_is_not_written_over(settings, tmp_path):
    (tmp_path / "copy").write_text("dear to somebody")
    with pytest.raises(CopyFailed, match="is there already"):
        back_up(settings, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "dear to somebody"


def test_thaws_own_artifacts_are_no_place_for_a_backup(settings, tmp_path):
    for folder in (settings.artifacts_dir, settings.artifacts_dir / "kept"):
        with pytest.raises(CopyFailed, match="own folder"):
            back_up(settings, tmp_path / "copy", folder)


@only_sqlite
def test_a_database_that_is_not_there_is_not_made(settings, tmp_path):
    nowhere = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'no.db'}"})
    with pytest.raises(CopyFailed, match="there is no database"):
        back_up(nowhere, tmp_path / "copy")
    assert not (tmp_path / "no.db").exists()
    assert not (tmp_path / "copy").exists()


@only_sqlite
def test_a_damaged_database_gives_no_backup(db, url, settings, leave_job, tmp_path):
    for _ in range(20):
        leave_job()
    db.dispose()
    file = tmp_path / "thaw.db"
    with file.open("r+b") as damaged:
        damaged.seek(file.stat().st_size // 2)
        damaged.write(b"\xff" * 8192)
    with pytest.raises(CopyFailed, match=r"damaged|cannot be copied|does not answer"):
        back_up(settings, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == []


def test_a_postgresql_without_its_program_says_what_to_install(postgresql, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_DEBIAN", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    there = settings.model_copy(update={"database_url": postgresql.url("postgres")})
    with pytest.raises(CopyFailed, match="postgresql-client"):
        back_up(there, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_postgresql_that_does_not_answer_is_told(settings, tmp_path):
    there = settings.model_copy(
        update={"database_url": f"postgresql+psycopg://nobody:secret@/none?host={tmp_path}"}
    )
    with pytest.raises(CopyFailed, match="does not answer") as refused:
        back_up(there, tmp_path / "copy")
    assert "secret" not in str(refused.value)


@only_sqlite
def test_the_command_says_what_it_made_and_fails_where_files_are_lost(settings, leave_job, tmp_path):
    job = leave_job()

    def run(*arguments):
        environment = {
            "PATH": "/usr/bin:/bin",
            "THAW_HOME_DIR": str(settings.home_dir),
            "THAW_DATABASE_URL": settings.database_url,
        }
        command = [sys.executable, "-m", "client", "backup", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    done = run(tmp_path / "copy", "--artifacts", tmp_path / "kept")
    assert done.returncode == 0, done.stderr
    assert "2 files, 2 of them new, 12 bytes" in done.stdout
    again = run(tmp_path / "copy")
    assert (again.returncode, again.stderr) == (
        1,
        f"thaw: {tmp_path / 'copy'} is there already: take another name\n",
    )
    shutil.rmtree(settings.artifacts_dir / job)
    lossy = run(tmp_path / "lossy", "--artifacts", tmp_path / "empty")
    assert lossy.returncode == 1
    assert f"{job}/attempt-1/epoch-00001.safetensors is named by the database" in lossy.stderr
