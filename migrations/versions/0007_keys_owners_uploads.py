"""Keys; the owners of jobs, experiments and uploads. What was there before belongs to nobody."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The index whose order SQLite does not say.
_CLAIM = "ix_jobs_claim"


def upgrade() -> None:
    """Create the tables of keys and uploads; give jobs and experiments an owner."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
        sa.CheckConstraint("scope IN ('read', 'submit', 'admin')", name=op.f("ck_api_keys_scope")),
    )
    op.create_index("ix_api_keys_owner", "api_keys", ["owner", "id"])
    op.create_table(
        "uploads",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_owner", "uploads", ["owner"])
    for name in ("experiments", "jobs"):
        with _altered(name) as table:
            table.drop_constraint(op.f(f"uq_{name}_idempotency_key"), type_="unique")
            table.add_column(sa.Column("owner", sa.String(100), nullable=False, server_default=""))
            table.create_unique_constraint(
                op.f(f"uq_{name}_owner_idempotency_key"), ["owner", "idempotency_key"]
            )
        op.create_index(f"ix_{name}_owner", name, ["owner", "seq"])
    op.create_index("ix_jobs_owner_status", "jobs", ["owner", "status", "seq"])


def downgrade() -> None:
    """Drop keys and owners. Of requests with one idempotency key by several owners, the first keeps it."""
    op.drop_index("ix_jobs_owner_status", "jobs")
    for name in ("jobs", "experiments"):
        op.drop_index(f"ix_{name}_owner", name)
        op.execute(
            f"UPDATE {name} SET idempotency_key = NULL WHERE seq NOT IN "
            f"(SELECT min(seq) FROM {name} GROUP BY idempotency_key)"
        )
        with _altered(name) as table:
            table.drop_constraint(op.f(f"uq_{name}_owner_idempotency_key"), type_="unique")
            table.drop_column("owner")
            table.create_unique_constraint(op.f(f"uq_{name}_idempotency_key"), ["idempotency_key"])
    op.drop_table("uploads")
    op.drop_table("api_keys")


@contextmanager
def _altered(name: str) -> Iterator[BatchOperations]:
    """Alter a table: in place, or on SQLite by making it anew as it is there, with its checks and indexes.

    SQLite loses the number of the last row on the way, which must not be given again though that row may be
    deleted.
    """
    bind = op.get_bind()
    sqlite = bind.dialect.name == "sqlite"
    last = "SELECT seq FROM sqlite_sequence WHERE name = :name"
    number = bind.execute(sa.text(last), {"name": name}).scalar() if sqlite else None
    if name == "jobs":
        op.drop_index(_CLAIM, name)
    there = sa.Table(name, sa.MetaData(), autoload_with=bind, sqlite_autoincrement=True) if sqlite else None
    with op.batch_alter_table(name, copy_from=there) as table:
        yield table
    if name == "jobs":
        op.create_index(_CLAIM, name, ["status", sa.text("priority DESC"), "seq"])
    if number is not None:
        bind.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
        row = {"name": name, "seq": number}
        bind.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), row)
