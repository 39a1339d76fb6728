"""An index of the jobs by their end, for what is kept only so long."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_jobs_finished_at", "jobs")
