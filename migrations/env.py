from alembic import context
from sqlalchemy import Connection

from app.store.database import Database
from app.store.tables import metadata


def run(connection: Connection) -> None:
    """Run what Alembic was asked for; batches, because SQLite alters most of a table by making it anew."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def run_on_url() -> None:
    """Run Alembic's own command line, against its `sqlalchemy.url`."""
    db = Database(context.config.get_main_option("sqlalchemy.url", ""), foreign_keys=False)
    try:
        with db.write() as connection:
            run(connection)
    finally:
        db.dispose()


given: Connection | None = context.config.attributes.get("connection")
if given is None:
    run_on_url()
else:
    run(given)
