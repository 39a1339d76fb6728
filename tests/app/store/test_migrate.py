import re
import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from app.store.database import Database
from app.store.migrate import is_current, migrate
from app.store.tables import metadata


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


def test_migrated_tables_have_the_constraints_and_indexes_of_created_ones(db, tmp_path):
    created = Database(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(created.engine)
    assert _schema(db) == _schema(created)
    assert _indexes(db) == _indexes(created)
    created.dispose()


def test_every_constraint_is_named(db):
    with db.read() as connection:
        tables = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    for name, sql in tables:
        if name in metadata.tables:
            anonymous = re.findall(r"(?<!\S)(?:PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK) ?\(", sql)
            named = re.findall(r"CONSTRAINT \w+ (?:PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK) ?\(", sql)
            assert len(anonymous) == len(named) > 0, sql
    assert all(constraint.name for table in metadata.tables.values() for constraint in table.constraints)


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
