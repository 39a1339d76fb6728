from sqlalchemy import func, select

from app.store.database import Database
from app.store.tables import jobs


def find_damage(db: Database, most: int = 3) -> list[str]:
    """Return what is wrong with an SQLite file, its pages, indexes and references; nothing if it is sound."""
    with db.read() as connection:
        connection.execute(select(func.count()).select_from(jobs))  # an unreadable file says so by itself
        pages = connection.exec_driver_sql(f"PRAGMA integrity_check({most})").scalars().all()
        rows = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    lost = [f"a row of {row[0]} refers to none of {row[2]}" for row in rows[:most]]
    return [line for line in pages if line != "ok"] + lost
