import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from app.store import database
from app.store.database import Database, db_now
from app.store.errors import NotMigrated, NotStorable, StoreUnavailable
from app.store.jobs import get_job, list_jobs
from app.store.tables import jobs
from tests.databases import only_sqlite


def _pragma(connection, name):
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


@only_sqlite
def test_pragmas_are_in_force_on_every_connection(db):
    with db.read() as first, db.read() as second, db.write() as third:
        for connection in (first, second, third):
            assert _pragma(connection, "journal_mode") == "wal"
            assert _pragma(connection, "synchronous") == 2
            assert _pragma(connection, "foreign_keys") == 1
            assert _pragma(connection, "busy_timeout") == 10_000


def test_database_connects_on_first_use_only(tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    with pytest.raises(StoreUnavailable) as refused:
        db.ping()
    assert isinstance(refused.value.__cause__, OperationalError)
    assert str(tmp_path) not in str(refused.value)  # clients see the message
    db.dispose()


def test_ping_is_answered(db):
    db.ping()


def test_now_is_unix_seconds(db):
    with db.read() as connection:
        now = connection.execute(select(db_now())).scalar_one()
    assert isinstance(now, float)
    assert abs(now - datetime.now(UTC).timestamp()) < 5


def test_now_passes(db):
    with db.read() as connection:
        first = connection.execute(select(db_now())).scalar_one()
        time.sleep(0.02)
        assert connection.execute(select(db_now())).scalar_one() > first


def test_now_on_postgresql_is_a_double_that_may_use_an_index():
    sql = str(select(db_now()).compile(dialect=postgresql.dialect()))
    assert "CAST(extract(epoch from statement_timestamp()) AS double precision)" in sql


@only_sqlite
def test_write_holds_the_write_lock_from_its_start(db):
    with db.write(), db.read() as other:
        other.exec_driver_sql("PRAGMA busy_timeout = 0")
        with pytest.raises(OperationalError, match="locked"):
            other.execute(update(jobs).values(name="late"))
    db.dispose()  # the shortened timeout must not stay in the pool


@only_sqlite
def test_writer_that_waits_in_vain_for_the_lock_finds_the_store_unavailable(db, url, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 50)
    impatient = Database(url)
    with db.write(), pytest.raises(StoreUnavailable) as refused, impatient.write():
        pytest.fail("two writers at once")
    assert "locked" in str(refused.value.__cause__)
    with impatient.write() as connection:
        connection.execute(update(jobs).values(name="in time"))
    impatient.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_database_without_tables_is_not_migrated_and_the_error_says_how_to_mend_it(kind, tmp_path, request):
    if kind == "sqlite":
        db = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    else:
        db = Database(request.getfixturevalue("postgresql").url("postgres"))
    with pytest.raises(NotMigrated, match="python -m app migrate"):
        list_jobs(db)
    db.dispose()


@pytest.mark.parametrize("statement", ["SELECT unheard FROM jobs", "INSERT INTO jobs (unheard) VALUES (1)"])
def test_column_of_another_version_is_not_migrated(db, statement):
    with pytest.raises(NotMigrated), db.write() as connection:
        connection.execute(text(statement))


def test_reader_sees_one_state_and_is_not_blocked_by_a_writer(db, post, reread):
    job = post(name="before")
    with db.read() as reader:
        names = select(jobs.c.name)
        assert reader.execute(names).scalar_one() == "before"
        with db.write() as writer:
            writer.execute(update(jobs).values(name="after"))
        assert reader.execute(names).scalar_one() == "before"
    assert reread(job).name == "after"


@pytest.mark.promise("What is written together is there as a whole or not at all")
def test_write_rolls_back_on_an_error(db, post, reread):
    def rename_and_fail():
        with db.write() as connection:
            connection.execute(update(jobs).values(name="after"))
            raise RuntimeError("power cut")

    job = post(name="before")
    with pytest.raises(RuntimeError, match="power cut"):
        rename_and_fail()
    assert reread(job).name == "before"


def test_unknown_status_is_refused_by_the_database(db, post):
    post()
    with pytest.raises(IntegrityError, match="ck_jobs_status"), db.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'sleeping'")


def test_running_job_without_a_lease_is_refused_by_the_database(db, post):
    post()
    with pytest.raises(IntegrityError, match="ck_jobs_held_while_active"), db.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET status = 'running'")


def test_floats_survive_and_nan_is_refused(post, reread):
    numbers = {"values": [0.1, 1e-320, 2.5e-05, 1.7976931348623157e308]}
    assert reread(post(spec=numbers)).spec == numbers
    with pytest.raises((StatementError, ValueError), match="not JSON compliant"):
        post(spec={"loss": float("nan")})


def test_a_text_with_a_nul_names_nothing_or_is_not_storable(db):
    """PostgreSQL takes none; to SQLite it is a text like any other."""
    if db.engine.dialect.name == "sqlite":
        assert get_job(db, "job_\x00") is None
    else:
        with pytest.raises(NotStorable):
            get_job(db, "job_\x00")
