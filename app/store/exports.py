from sqlalchemy import select, update

from app.store.checkpoints import COLUMNS
from app.store.database import Database, db_now
from app.store.records import Checkpoint, Json
from app.store.tables import checkpoints


def record_export(db: Database, checkpoint_id: str, key: str, export: Json) -> Checkpoint | None:
    """Note a file of a checkpoint in another format, in the place of an earlier one; `created_at` is added.

    Returns:
        The checkpoint, or None where it has been dropped meanwhile: the file is then the caller's to delete.
    """
    mine = checkpoints.c.id == checkpoint_id
    with db.write() as connection:
        found = connection.execute(select(checkpoints.c.exports, db_now()).where(mine).with_for_update())
        row = found.one_or_none()
        if row is None:
            return None
        exports = {**(row[0] or {}), key: {**export, "created_at": row[1]}}
        change = update(checkpoints).where(mine).values(exports=exports).returning(*COLUMNS)
        return Checkpoint(**connection.execute(change).mappings().one())
