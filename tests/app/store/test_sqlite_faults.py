import pytest

from app.store.sqlite_faults import has_wal_reset_fault, warning_of

SQLITE, POSTGRESQL = "sqlite:///thaw.db", "postgresql+psycopg://thaw@db/thaw"


@pytest.mark.parametrize(
    "version",
    [
        (3, 7, 0),
        (3, 40, 1),
        (3, 44, 5),
        (3, 45, 0),
        (3, 49, 9),
        (3, 50, 0),
        (3, 50, 6),
        (3, 51, 0),
        (3, 51, 2),
    ],
)
def test_versions_with_the_fault(version):
    assert has_wal_reset_fault(version)


@pytest.mark.parametrize(
    "version",
    [
        (3, 6, 23),
        (3, 44, 6),
        (3, 44, 7),
        (3, 50, 7),
        (3, 50, 8),
        (3, 51, 3),
        (3, 52, 0),
        (3, 53, 1),
        (4, 0, 0),
    ],
)
def test_versions_without_it(version):
    assert not has_wal_reset_fault(version)


def test_the_warning_names_the_version_and_what_to_do():
    said = warning_of(SQLITE, (3, 40, 1))
    assert said is not None
    assert "SQLite 3.40.1" in said
    assert "3.51.3" in said
    assert "PostgreSQL" in said


def test_there_is_no_warning_where_the_database_is_another_one():
    assert warning_of(POSTGRESQL, (3, 40, 1)) is None
    assert warning_of(SQLITE, (3, 51, 3)) is None
