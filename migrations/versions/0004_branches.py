"""Jobs that start from a checkpoint of another."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give jobs the checkpoint that they start from, where they are branches."""
    op.add_column("jobs", sa.Column("branched_from", sa.String(64)))
    op.create_index("ix_jobs_branched_from", "jobs", ["branched_from", "status"])


def downgrade() -> None:
    """Drop what the upgrade added; the jobs stay."""
    op.drop_index("ix_jobs_branched_from", "jobs")
    op.drop_column("jobs", "branched_from")
