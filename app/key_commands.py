"""`thaw keys`: makes, lists and revokes keys, on the machine itself, straight in the database.

Over HTTP there is no such thing: the first key must come from somewhere, and a stolen one cannot make others.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from app.keys import new_key, sha256_of
from app.settings import Settings
from app.store import keys
from app.store.database import Database, shown
from app.store.errors import KeyNotFound, StoreUnavailable
from app.store.migrate import is_current, migrate
from app.store.records import ApiKey
from app.store.scopes import NOBODY, Scope

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_SPAN = re.compile(r"(\d{1,6})([hdw])", re.ASCII)
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = 100 * 365 * 86400.0  # seconds; also what a date far away may be


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs one of the commands. Returns the exit code."""
    asked = _parser().parse_args(arguments)
    db, where = Database(settings.database_url), shown(settings.database_url)
    try:
        if asked.command == "create":
            migrate(settings.database_url)
            return _create(db, where, asked)
        if not is_current(db):
            return _fail(f"the database {where} is not of this version: start Thaw once")
        return _list(db, asked) if asked.command == "list" else _revoke(db, asked)
    except StoreUnavailable as error:
        return _fail(f"the database {where} does not answer: {error.__cause__}")
    except KeyNotFound as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"the database {where} cannot be made: {error.strerror}")
    finally:
        db.dispose()


def _create(db: Database, where: str, asked: argparse.Namespace) -> int:
    key = new_key()
    stored = keys.create_key(
        db,
        sha256=sha256_of(key),
        scope=asked.scope,
        owner=asked.owner or NOBODY,
        lifetime_seconds=asked.expires,
    )
    # The key alone on standard output, for `KEY=$(thaw keys create …)`.
    sys.stderr.write(
        f"{stored.id}: {stored.scope}, {_whose(stored)}, {_until(stored)}; in {where}\n"
        "this is the only time that the key is shown:\n"
    )
    sys.stdout.write(f"{key}\n")
    return 0


def _list(db: Database, asked: argparse.Namespace) -> int:
    found = keys.list_keys(db)
    if asked.json:
        sys.stdout.write(json.dumps([_fields(key) for key in found], indent=2) + "\n")
        return 0
    rows = [("ID", "SCOPE", "OWNER", "MADE", "STATE")]
    rows += [(key.id, str(key.scope), key.owner or "–", _when(key.created_at), _state(key)) for key in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    return 0


def _revoke(db: Database, asked: argparse.Namespace) -> int:
    revoked = keys.revoke_key(db, asked.key)
    sys.stdout.write(f"{revoked.id} opens nothing any more\n")
    return 0


def _fields(key: ApiKey) -> dict[str, object]:
    shown_fields = ("id", "scope", "owner", "created_at", "expires_at", "revoked_at", "usable")
    return {name: getattr(key, name) for name in shown_fields} | {"owner": key.owner or None}


def _whose(key: ApiKey) -> str:
    return f"owner {key.owner}" if key.owner else "no owner"


def _until(key: ApiKey) -> str:
    return f"until {_when(key.expires_at)}" if key.expires_at is not None else "without an end"


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_when(key.revoked_at)}"
    if key.expired and key.expires_at is not None:
        return f"expired {_when(key.expires_at)}"
    return _until(key)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _fail(message: str) -> int:
    sys.stderr.write(f"thaw: {message}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="thaw keys", description="Makes, lists and revokes keys.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="create | list | revoke")
    create = commands.add_parser(
        "create", help="make a key and print it", description="Makes a key, prints it."
    )
    create.add_argument(
        "--scope",
        type=Scope,
        choices=list(Scope),
        required=True,
        help="read: look, download, predict; submit: also submit, upload, cancel, delete; admin: everybody's",
    )
    create.add_argument("--owner", type=_owner, help="whose the key is; without one, what no owner has")
    create.add_argument(
        "--expires", type=_lifetime, metavar="WHEN", help="12h, 90d, 4w, or a date such as 2030-12-31 (UTC)"
    )
    listed = commands.add_parser(
        "list", help="list all keys, without what opens", description="Lists all keys."
    )
    listed.add_argument("--json", action="store_true", help="print them as JSON")
    revoke = commands.add_parser(
        "revoke", help="let a key open nothing any more", description="Revokes a key."
    )
    revoke.add_argument("key", metavar="ID", help="its id, as `thaw keys list` shows it")
    return parser


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "an owner's name has 1 to 100 letters (A to Z), digits, dots, dashes, underscores and @"
        )
    return text


def _lifetime(text: str) -> float:
    """Seconds from now."""
    span = _SPAN.fullmatch(text)
    if span:
        seconds = float(int(span[1]) * _SECONDS[span[2]])
    else:
        try:
            end = datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither 12h, 90d or 4w nor a date") from None
        seconds = (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - time.time()
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} has passed, or is more than a hundred years away")
    return seconds
