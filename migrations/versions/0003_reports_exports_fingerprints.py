"""Reports of jobs, exports of checkpoints, fingerprints of datasets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of reports; give checkpoints their exports and jobs the fingerprint of their data."""
    op.create_table(
        "reports",
        sa.Column("job_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("checkpoint", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("predictions_path", sa.Text, nullable=False),
        sa.Column("predictions_size", sa.BigInteger, nullable=False),
        sa.Column("predictions_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_reports")),
        sa.ForeignKeyConstraint(
            ["job_seq"], ["jobs.seq"], name=op.f("fk_reports_job_seq_jobs"), ondelete="CASCADE"
        ),
    )
    op.add_column("checkpoints", sa.Column("exports", sa.JSON))
    op.add_column("jobs", sa.Column("dataset_fingerprint", sa.String(64)))


def downgrade() -> None:
    """Drop what the upgrade added; the files stay."""
    op.drop_column("jobs", "dataset_fingerprint")
    op.drop_column("checkpoints", "exports")
    op.drop_table("reports")
