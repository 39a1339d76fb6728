"""Keys: their SHA-256, what they allow, whose they are. A row stays when its key is of no more use."""

import hmac

from sqlalchemy import ColumnElement, Select, exists, insert, select, update

from app.store.database import Database, db_now
from app.store.errors import KeyNotFound
from app.store.records import ApiKey
from app.store.scopes import Scope
from app.store.tables import api_keys

_ID_DIGITS = 16


def key_id(sha256: str) -> str:
    """Return the name of the key with this SHA-256. It may be shown: nobody finds the key from it."""
    return f"key_{sha256[:_ID_DIGITS]}"


def create_key(
    db: Database, *, sha256: str, scope: Scope, owner: str, lifetime_seconds: float | None = None
) -> ApiKey:
    """Store a new key that ends so many seconds from now; None: it does not end by itself."""
    expires_at = None if lifetime_seconds is None else db_now() + lifetime_seconds
    row = {
        "id": key_id(sha256),
        "sha256": sha256,
        "scope": scope,
        "owner": owner,
        "created_at": db_now(),
        "expires_at": expires_at,
    }
    with db.write() as connection:
        connection.execute(insert(api_keys).values(row))
        stored = connection.execute(_keys().where(api_keys.c.sha256 == sha256)).mappings().one()
    return ApiKey(**stored)


def find_key(db: Database, sha256: str) -> ApiKey | None:
    """Return the key with this SHA-256, usable or not; None where there is none.

    It is looked up by its name alone and then compared in constant time: how long that takes says nothing
    about the rest of anybody's SHA-256.
    """
    with db.read() as connection:
        row = connection.execute(_keys().where(api_keys.c.id == key_id(sha256))).mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["sha256"], sha256):
        return None
    return ApiKey(**row)


def list_keys(db: Database) -> list[ApiKey]:
    """Return all keys, the newest first."""
    with db.read() as connection:
        rows = connection.execute(_keys().order_by(api_keys.c.created_at.desc(), api_keys.c.id)).mappings()
        return [ApiKey(**row) for row in rows]


def revoke_key(db: Database, name: str) -> ApiKey:
    """Let a key open nothing any more, from the next request on. Twice changes nothing.

    Raises:
        KeyNotFound: there is no such key.
    """
    mine = api_keys.c.id == name
    with db.write() as connection:
        connection.execute(
            update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=db_now())
        )
        row = connection.execute(_keys().where(mine)).mappings().one_or_none()
    if row is None:
        raise KeyNotFound(name)
    return ApiKey(**row)


def any_key(db: Database) -> bool:
    """Say whether there has ever been a key: from the first one on, keys are demanded."""
    with db.read() as connection:
        return bool(connection.execute(select(exists().select_from(api_keys))).scalar_one())


def any_usable_key(db: Database) -> bool:
    """Say whether there is a key that lets somebody in."""
    lets_in = api_keys.c.revoked_at.is_(None) & ~_expired()
    with db.read() as connection:
        return bool(connection.execute(select(exists().select_from(api_keys).where(lets_in))).scalar_one())


def _expired() -> ColumnElement[bool]:
    return api_keys.c.expires_at.is_not(None) & (api_keys.c.expires_at <= db_now())


def _keys() -> Select[*tuple[object, ...]]:
    return select(api_keys, _expired().label("expired"))
