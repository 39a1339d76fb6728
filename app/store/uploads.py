"""Whose the uploaded datasets are."""

from dataclasses import fields

from sqlalchemy import Connection, delete, insert, select

from app.store.database import Database, db_now
from app.store.records import Upload
from app.store.tables import uploads

_COLUMNS = [uploads.c[field.name] for field in fields(Upload)]


def get_upload(db: Database, name: str) -> Upload | None:
    """Return what is known of an uploaded dataset; None where none of this name was uploaded."""
    with db.read() as connection:
        row = connection.execute(select(*_COLUMNS).where(uploads.c.name == name)).mappings().one_or_none()
    return Upload(**row) if row else None


def list_uploads(db: Database, owner: str | None = None) -> list[Upload]:
    """Return the uploaded datasets, an owner's or everybody's."""
    query = select(*_COLUMNS).order_by(uploads.c.name)
    if owner is not None:
        query = query.where(uploads.c.owner == owner)
    with db.read() as connection:
        return [Upload(**row) for row in connection.execute(query).mappings()]


def record_upload(db: Database, name: str, owner: str | None, size: int) -> Upload | None:
    """Note whose a dataset is, in the place of an earlier note, which is returned; None: it is for all."""
    with db.write() as connection:
        earlier = _drop(connection, name)
        if owner is not None:
            values = {"name": name, "owner": owner, "size": size, "created_at": db_now()}
            connection.execute(insert(uploads).values(values))
    return earlier


def restore_upload(db: Database, name: str, earlier: Upload | None) -> None:
    """Put back what `record_upload` returned: the dataset has not got there."""
    with db.write() as connection:
        _drop(connection, name)
        if earlier is not None:
            values = {column.name: getattr(earlier, column.name) for column in _COLUMNS}
            connection.execute(insert(uploads).values(values))


def _drop(connection: Connection, name: str) -> Upload | None:
    change = delete(uploads).where(uploads.c.name == name).returning(*_COLUMNS)
    row = connection.execute(change).mappings().one_or_none()
    return Upload(**row) if row else None
