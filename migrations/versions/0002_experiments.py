"""Experiments, and the jobs that are of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy.schema import SchemaItem

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_STATUSES = "'queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed'"
_HELD = "(status IN ('running', 'pausing', 'cancelling')) = (worker IS NOT NULL AND lease_until IS NOT NULL)"
_WHOLE = "(experiment IS NULL) = (variant IS NULL) AND (experiment IS NULL) = (seed IS NULL)"
_INDEXES: dict[str, list[str | sa.TextClause]] = {
    "ix_jobs_claim": ["status", sa.text("priority DESC"), "seq"],
    "ix_jobs_list": ["status", "seq"],
    "ix_jobs_sweep": ["status", "lease_until"],
}
_CHECK, _FOREIGN_KEY = "ck_jobs_variant_and_seed_of_an_experiment", "fk_jobs_experiment_experiments"


def upgrade() -> None:
    """Create the table of experiments; give the jobs what they are of one."""
    op.create_table(
        "experiments",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("variants", sa.JSON, nullable=False),
        sa.Column("seeds", sa.JSON, nullable=False),
        sa.Column("metric", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.String(128)),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_experiments")),
        sa.UniqueConstraint("id", name=op.f("uq_experiments_id")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_experiments_idempotency_key")),
        sqlite_autoincrement=True,
    )
    with _altered_jobs() as jobs:
        for column in _new_columns():
            jobs.add_column(column)
        jobs.create_foreign_key(op.f(_FOREIGN_KEY), "experiments", ["experiment"], ["id"], ondelete="CASCADE")
        jobs.create_check_constraint(op.f(_CHECK), sa.text(_WHOLE))
    op.create_index("ix_jobs_experiment", "jobs", ["experiment", "seq"])


def downgrade() -> None:
    """Drop the experiments; their jobs stay, as jobs of their own."""
    op.drop_index("ix_jobs_experiment", "jobs")
    foreign_key = sa.ForeignKeyConstraint(["experiment"], ["experiments.id"], name=op.f(_FOREIGN_KEY))
    check = sa.CheckConstraint(_WHOLE, name=op.f(_CHECK))
    with _altered_jobs(*_new_columns(), foreign_key, check) as jobs:
        jobs.drop_constraint(op.f(_CHECK), type_="check")
        jobs.drop_constraint(op.f(_FOREIGN_KEY), type_="foreignkey")
        for column in _new_columns():
            jobs.drop_column(column.name)
    op.drop_table("experiments")


def _new_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("experiment", sa.String(64)),
        sa.Column("variant", sa.Text),
        sa.Column("seed", sa.BigInteger),
    ]


@contextmanager
def _altered_jobs(*more: SchemaItem) -> Iterator[BatchOperations]:
    """Alter the jobs: in place, or on SQLite by making the table anew from what is written here.

    SQLite loses two things on the way: the indexes, and the number of the last job, which must not be given
    again though that job may be deleted.
    """
    sqlite = op.get_bind().dialect.name == "sqlite"
    last = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
    number = op.get_bind().execute(sa.text(last)).scalar() if sqlite else None
    for name in _INDEXES:
        op.drop_index(name, "jobs")
    with op.batch_alter_table("jobs", copy_from=_first_jobs(*more)) as jobs:
        yield jobs
    for name, columns in _INDEXES.items():
        op.create_index(name, "jobs", columns)
    if number is not None:
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', {int(number)})")


def _first_jobs(*more: SchemaItem) -> sa.Table:
    """The jobs of the first revision, with what the second adds where it is to be taken away."""
    return sa.Table(
        "jobs",
        sa.MetaData(),
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("status_reason", sa.Text, nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("error_param", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lost_attempts", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("lease_until", sa.Double),
        sa.Column("parent", sa.String(64)),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("resolved_spec", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("best", sa.JSON),
        sa.Column("result", sa.JSON),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.String(128)),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_jobs_idempotency_key")),
        sa.CheckConstraint(f"status IN ({_STATUSES})", name=op.f("ck_jobs_status")),
        sa.CheckConstraint(_HELD, name=op.f("ck_jobs_held_while_active")),
        *more,
        sqlite_autoincrement=True,
    )
