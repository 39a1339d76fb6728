"""Jobs with their metadata, attempts, epochs, events and checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_STATUSES = "'queued', 'running', 'pausing', 'paused', 'cancelling', 'cancelled', 'succeeded', 'failed'"
_HELD = "(status IN ('running', 'pausing', 'cancelling')) = (worker IS NOT NULL AND lease_until IS NOT NULL)"


def upgrade() -> None:
    """Create the tables."""
    _create_jobs()
    _create_job_metadata()
    _create_attempts()
    _create_epochs()
    _create_events()
    _create_checkpoints()


def downgrade() -> None:
    """Drop the tables."""
    for table in ("checkpoints", "events", "epochs", "attempts", "job_metadata", "jobs"):
        op.drop_table(table)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
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
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_claim", "jobs", ["status", sa.text("priority DESC"), "seq"])
    op.create_index("ix_jobs_list", "jobs", ["status", "seq"])
    op.create_index("ix_jobs_sweep", "jobs", ["status", "lease_until"])


def _create_job_metadata() -> None:
    op.create_table(
        "job_metadata",
        sa.Column("job_seq", _SERIAL, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_seq", "key", name=op.f("pk_job_metadata")),
        _of_job("job_metadata"),
    )
    op.create_index("ix_job_metadata_filter", "job_metadata", ["key", "value", "job_seq"])


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_seq", _SERIAL, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("job_seq", "number", name=op.f("pk_attempts")),
        _of_job("attempts"),
    )


def _create_epochs() -> None:
    op.create_table(
        "epochs",
        sa.Column("job_seq", _SERIAL, nullable=False),
        sa.Column("stage_index", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("global_epoch", sa.Integer, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("job_seq", "stage_index", "epoch", name=op.f("pk_epochs")),
        _of_job("epochs"),
    )
    op.create_index("ix_epochs_poll", "epochs", ["job_seq", "global_epoch"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("job_seq", _SERIAL, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        _of_job("events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_poll", "events", ["job_seq", "id"])


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_seq", _SERIAL, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("stage_index", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("global_epoch", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state_path", sa.Text),
        sa.Column("state_size", sa.BigInteger),
        sa.Column("state_sha256", sa.String(64)),
        sa.Column("metric", sa.Text),
        sa.Column("value", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoints_id")),
        _of_job("checkpoints"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_checkpoints_job", "checkpoints", ["job_seq", "seq"])


def _of_job(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["job_seq"], ["jobs.seq"], name=op.f(f"fk_{table}_job_seq_jobs"), ondelete="CASCADE"
    )
