"""Where the server may listen: without a key on this machine alone."""

import socket
from ipaddress import ip_address

from app.settings import Settings
from app.store import keys
from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.migrate import is_current


class BindingRefused(Exception):
    """Others would reach a server that lets everybody in; the message says what to do."""


def is_loopback(host: str) -> bool:
    """Whether all that an address or a name stands for is reached from this machine alone."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # such a name is none
        return False
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    return bool(addresses) and all(ip_address(address).is_loopback for address in addresses)


def check_binding(settings: Settings) -> None:
    """Allows the server to listen where the settings say.

    Raises:
        BindingRefused: others can reach that, and no key lets anybody in.
    """
    if is_loopback(settings.host):
        return
    db = Database(settings.database_url)
    try:
        if not is_current(db):
            raise BindingRefused("the database is not of this version: run `python -m app migrate`")
        if not keys.any_usable_key(db):
            raise BindingRefused(
                f"THAW_HOST is {settings.host!r}, which others may reach, and there is no key that would "
                "keep them out: make one with `thaw keys create --scope admin`, or leave THAW_HOST out to "
                "listen on this machine alone"
            )
    except StoreUnavailable as error:
        raise BindingRefused(str(error)) from error
    finally:
        db.dispose()
