"""Under which names the server answers, and from which pages a browser may call it.

A page of another site can have its reader's browser send requests to a server that only the reader reaches.
With a DNS name that its owner turns to this machine, it can also read the answers (DNS rebinding): hence the
names. An address in the place of a name is fine: nobody can turn it elsewhere.
"""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from app.errors import BadRequest, Forbidden, Misdirected

LOCAL = "localhost"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_PAGES = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; none: the reader typed the address
PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")

Place = tuple[str, int | None]  # a name in lower case, and a port, if one is said


def check_host(headers: Headers, allowed: Sequence[str]) -> Place:
    """The name and the port that a request is sent to.

    Raises:
        BadRequest: it has no Host, several, or one that is none.
        Misdirected: the server does not go by that name.
    """
    sent = headers.getlist("host")
    match = _HOST.fullmatch(sent[0]) if len(sent) == 1 else None
    if match is None:
        raise BadRequest("a request has one Host header, a name or an address with or without a port")
    name = (match[1] or match[2]).lower().removesuffix(".")
    if not (name == LOCAL or _is_address(name) or any(_stands_for(entry, name) for entry in allowed)):
        raise Misdirected(
            f"this server does not go by the name {name[:200]!r}: the operator lists its names in "
            "THAW_ALLOWED_HOSTS"
        )
    return name, int(match[3]) if match[3] else None


def check_origin(method: str, headers: Headers, own: Place) -> None:
    """Refuses what changes something where a page of another origin sends it. Programs name no origin.

    Raises:
        Forbidden: it is such a page's.
    """
    if method in SAFE_METHODS:
        return
    site = headers.get("sec-fetch-site", "none")
    origins = headers.getlist("origin")
    if site not in OWN_PAGES or any(not _is_own(origin, own) for origin in origins):
        raise Forbidden(
            "a page of another origin may change nothing here; behind a proxy, the proxy has to pass the "
            "Host header on",
            code="foreign_origin",
        )


def _is_own(origin: str, own: Place) -> bool:
    """The scheme may differ: a proxy in front speaks https, and the server does not know."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    default = PORTS.get(parts.scheme)
    name = (parts.hostname or "").removesuffix(".")
    return default is not None and (name, port or default) == (own[0], own[1] or default)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _stands_for(entry: str, name: str) -> bool:
    return name.endswith(entry[1:]) if entry.startswith("*.") else name == entry
