import re
import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from app.store.database import Database
from app.store.jobs import create_job, delete_job, list_jobs
from app.store.migrate import is_current, migrate
from app.store.tables import metadata
from tests.databases import only_sqlite


def _schema(db):
    found = inspect(db.engine)
    return {
        table: {
            "columns": [column | {"type": str(column["type"])} for column in found.get_columns(table)],
            "primary key": found.get_pk_constraint(table),
            "foreign keys": found.get_foreign_keys(table),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "checks": sorted(found.get_check_constraints(table), key=str),
        }
        for table in metadata.tables
    }


def _indexes(db):
    with db.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        return sorted(row.sql for row in rows)


def test_migrated_database_equals_the_metadata(db):
    with db.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@only_sqlite
def test_migrated_tables_have_the_constraints_and_indexes_of_created_ones(db, tmp_path):
    created = Database(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(created.engine)
    assert _schema(db) == _schema(created)
    assert _indexes(db) == _indexes(created)
    created.dispose()


@only_sqlite
def test_every_constraint_is_named(db):
    with db.read() as connection:
        tables = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    for name, sql in tables:
        if name in metadata.tables:
            anonymous = re.findall(r"(?<!\S)(?:PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK) ?\(", sql)
            named = re.findall(r"CONSTRAINT \w+ (?:PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK) ?\(", sql)
            assert len(anonymous) == len(named) > 0, sql
    assert all(constraint.name for table in metadata.tables.values() for constraint in table.constraints)


@only_sqlite
def test_job_and_event_numbers_are_never_given_twice(db):
    with db.read() as connection:
        for table in ("jobs", "events", "checkpoints"):
            (sql,) = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{table}'").one()
            assert "AUTOINCREMENT" in sql


def test_migrating_twice_changes_nothing(db, url):
    before = _schema(db)
    migrate(url)
    assert _schema(db) == before


def test_migrating_makes_the_folder_of_the_file(tmp_path):
    migrate(f"sqlite:///{tmp_path / 'not' / 'yet' / 'thaw.db'}")
    assert (tmp_path / "not" / "yet" / "thaw.db").is_file()


@pytest.mark.promise("Any number of processes may bring the database up to date at once")
def test_five_processes_may_migrate_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'thaw.db'}"
    script = "import sys; from app.store.migrate import migrate; sys.stdin.readline(); migrate(sys.argv[1])"
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate()[1] for process in started]
    assert ended == [""] * 5
    db = Database(url)
    assert is_current(db)
    db.dispose()


def test_database_without_tables_is_not_current(tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    assert not is_current(db)
    db.dispose()


def test_migrated_database_is_current(db):
    assert is_current(db)


@pytest.mark.promise("What is written together is there as a whole or not at all")
def test_failed_migration_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(config: Config, revision: str) -> None:
        upgrade(config, revision)
        raise OSError("power cut")

    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", fail)
    url = f"sqlite:///{tmp_path / 'thaw.db'}"
    with pytest.raises(OSError, match="power cut"):
        migrate(url)
    db = Database(url)
    assert inspect(db.engine).get_table_names() == []
    db.dispose()


def _command_line_config(url):
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("sqlalchemy.url", url)
    return config


def test_alembics_own_commands_work_on_a_url_and_find_nothing_to_generate(url):
    command.check(_command_line_config(url))


def test_downgrade_removes_every_table(db, url):
    command.downgrade(_command_line_config(url), "base")
    assert inspect(db.engine).get_table_names() == ["alembic_version"]
    assert not is_current(db)


def _at(tmp_path, revision, name="old.db"):
    url = f"sqlite:///{tmp_path / name}"
    command.upgrade(_command_line_config(url), revision)
    return url, Database(url)


def _shape(db):
    """The tables, columns and constraints by what they say, and the indexes by their SQL."""
    found = inspect(db.engine)
    tables = {
        table: (
            [
                (column["name"], str(column["type"]), column["nullable"])
                for column in found.get_columns(table)
            ],
            found.get_pk_constraint(table),
            found.get_foreign_keys(table),
            sorted(found.get_unique_constraints(table), key=str),
            sorted((check["name"], check["sqltext"]) for check in found.get_check_constraints(table)),
        )
        for table in found.get_table_names()
    }
    return tables, _indexes(db)


def _fill(db):
    """Two jobs with all that hangs on them, and a third that was deleted after them."""
    job = (
        "INSERT INTO jobs (id, name, status, status_reason, created_at, priority, attempt, lost_attempts, "
        "max_attempts, spec, resolved_spec, best) VALUES "
        "('{0}', 'a {0}', 'succeeded', 'done', 1.5, 2, 1, 0, 3, '{{\"seed\": 7}}', '{{}}', '{{\"x\": 0.5}}')"
    )
    with db.write() as connection:
        for name in ("job_1", "job_2", "job_3"):
            connection.exec_driver_sql(job.format(name))
        for statement in (
            "DELETE FROM jobs WHERE id = 'job_3'",
            "INSERT INTO job_metadata VALUES (1, 'team', 'zoo')",
            "INSERT INTO attempts VALUES (2, 1, 'w', 1.0, 2.0, 'succeeded', 'done')",
            "INSERT INTO epochs VALUES (2, 0, 1, 1, 'head', 1, '{}', 1.0)",
            "INSERT INTO events VALUES (9, 1, 'job.created', 'info', 'x', '{}', 1.0)",
            "INSERT INTO checkpoints (id, job_seq, attempt, stage, stage_index, epoch, global_epoch, path, "
            "size, sha256, created_at) VALUES ('ckpt_1', 2, 1, 'head', 0, 1, 1, 'p', 1, 's', 1.0)",
        ):
            connection.exec_driver_sql(statement)


# Columns of later revisions.
LATER = {"experiment", "variant", "seed", "dataset_fingerprint", "exports", "branched_from", "owner"}


def _rows(db, tables):
    """The rows of the tables, in the columns that they had in the first revision."""
    found = inspect(db.engine)
    columns = {
        table: ", ".join(c["name"] for c in found.get_columns(table) if c["name"] not in LATER)
        for table in tables
    }
    with db.read() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT {columns[table]} FROM {table} ORDER BY 1").all()
            for table in tables
        }


JOBS_AND_ALL_OF_THEM = ("jobs", "job_metadata", "attempts", "epochs", "events", "checkpoints")


def test_experiments_come_to_a_database_with_jobs_and_lose_nothing(tmp_path):
    url, old = _at(tmp_path, "0001")
    _fill(old)
    before = _rows(old, JOBS_AND_ALL_OF_THEM)
    migrate(url)
    assert _rows(old, JOBS_AND_ALL_OF_THEM) == before
    assert all(len(rows) > 0 for rows in before.values())
    jobs, _ = list_jobs(old)
    assert [(job.id, job.experiment, job.variant, job.seed) for job in jobs] == [
        ("job_2", None, None, None),
        ("job_1", None, None, None),
    ]
    # Number 3 was given once.
    assert create_job(old, spec={}, resolved_spec={})[0].seq == 4
    delete_job(old, "job_2")
    with old.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM checkpoints").scalar() == 0
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    old.dispose()


def test_taking_experiments_away_keeps_their_jobs_as_jobs_of_their_own(tmp_path):
    url, db = _at(tmp_path, "head")
    _fill(db)
    with db.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO experiments (id, metadata, created_at, spec, variants, seeds, metric) "
            "VALUES ('exp_1', '{}', 1.0, '{}', '[]', '[0]', 'val_accuracy')"
        )
        connection.exec_driver_sql(
            "UPDATE jobs SET experiment = 'exp_1', variant = 'a', seed = 0 WHERE seq = 1"
        )
    before = _rows(db, JOBS_AND_ALL_OF_THEM)
    command.downgrade(_command_line_config(url), "0001")
    assert _rows(db, JOBS_AND_ALL_OF_THEM) == before
    first = _at(tmp_path, "0001", "first.db")[1]
    assert _shape(db) == _shape(first)
    with db.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    command.upgrade(_command_line_config(url), "head")
    assert create_job(db, spec={}, resolved_spec={})[0].seq == 4
    for each in (db, first):
        each.dispose()


EXPERIMENT = (
    "INSERT INTO experiments (id, metadata, created_at, spec, variants, seeds, metric, idempotency_key{0}) "
    "VALUES ('exp_{2}', '{{}}', 1.0, '{{}}', '[]', '[0]', 'val_accuracy', 'k'{1})"
)


def test_what_there_was_before_keys_belongs_to_nobody_and_loses_nothing(tmp_path):
    url, old = _at(tmp_path, "0003")
    _fill(old)
    with old.write() as connection:
        connection.exec_driver_sql(EXPERIMENT.format("", "", 1))
        connection.exec_driver_sql("UPDATE jobs SET idempotency_key = 'k' WHERE seq = 2")
        connection.exec_driver_sql(
            "UPDATE jobs SET experiment = 'exp_1', variant = 'a', seed = 0 WHERE seq = 1"
        )
    before = _rows(old, (*JOBS_AND_ALL_OF_THEM, "experiments"))
    migrate(url)
    assert _rows(old, (*JOBS_AND_ALL_OF_THEM, "experiments")) == before
    jobs, _ = list_jobs(old)
    assert [(job.id, job.owner, job.experiment) for job in jobs] == [
        ("job_2", "", None),
        ("job_1", "", "exp_1"),
    ]
    assert create_job(old, spec={}, resolved_spec={}, owner="zoo", idempotency_key="k")[1]
    assert [job.seq for job in list_jobs(old, owner="zoo")[0]] == [4]  # number 3 was given once
    with old.read() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    old.dispose()


def test_taking_owners_away_leaves_an_idempotency_key_to_the_first_who_used_it(tmp_path):
    url, db = _at(tmp_path, "head")
    for owner in ("zoo", "farm"):
        create_job(db, spec={}, resolved_spec={}, owner=owner, idempotency_key="k")
        create_job(db, spec={}, resolved_spec={}, owner=owner)
    create_job(db, spec={}, resolved_spec={}, owner="zoo", idempotency_key="l")
    with db.write() as connection:
        for number, owner in enumerate(("zoo", "farm")):
            connection.exec_driver_sql(EXPERIMENT.format(", owner", f", '{owner}'", number))
    command.downgrade(_command_line_config(url), "0003")
    with db.read() as connection:
        for table, kept in (("jobs", ["k", None, None, None, "l"]), ("experiments", ["k", None])):
            rows = connection.exec_driver_sql(f"SELECT idempotency_key FROM {table} ORDER BY seq")
            assert rows.scalars().all() == kept
    before = _at(tmp_path, "0003", "before.db")[1]
    assert _shape(db) == _shape(before)
    for each in (db, before):
        each.dispose()


@only_sqlite
def test_a_database_that_grew_is_a_fresh_one(tmp_path, db):
    url, old = _at(tmp_path, "0001")
    _fill(old)
    migrate(url)
    assert _shape(old) == _shape(db)
    old.dispose()


@pytest.mark.parametrize(
    ("experiment", "variant", "seed"),
    [("'exp_1'", "NULL", "0"), ("NULL", "'a'", "NULL"), ("NULL", "NULL", "0")],
)
def test_a_job_is_of_an_experiment_with_variant_and_seed_or_of_none(db, post, experiment, variant, seed):
    post()
    with pytest.raises(IntegrityError, match="variant_and_seed"), db.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE jobs SET experiment = {experiment}, variant = {variant}, seed = {seed}"
        )
