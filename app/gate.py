"""The one way in: a request without a key that allows it gets no further. What is not open here is closed.

It stands before the router, so that it also stands before routes that are yet to be written.
"""

import base64
import binascii
import re
from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.callers import CALLER, OPERATOR, Caller, caller_of
from app.errors import ApiError, Forbidden, Unauthorized, Unavailable, render
from app.keys import is_whole, sha256_of
from app.store import keys
from app.store.database import Database
from app.store.errors import StoreUnavailable
from app.store.records import ApiKey
from app.store.scopes import Scope as KeyScope

LOOKS = ("GET", "HEAD")
# Alive or not, and what is the same on every server: the page about the API.
OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
# The page, too: it is empty until the API tells it something, and asks for a key where one is needed.
PAGE = re.compile(
    r"/|/new|/jobs/[^/]+(/report|/try)?|/datasets(/.+)?|/experiments(/[^/]+)?|/assets/[^/]+/[^/]+"
    r"|/assets/plotly/[^/]+/[^/]+"
)
# Sent with POST for their bodies; nothing is changed or stored.
ASKS = re.compile(r"/v1/jobs/plan|/v1/jobs/[^/]+/(predict|report/corrections)|/v1/specs/convert")

REALM = 'realm="thaw"'
HOW = (
    "send one as `Authorization: Bearer KEY` (`thaw` takes it from THAW_API_KEY or --key-file); the operator "
    "makes one with `thaw keys create`"
)


class Gate:
    """ASGI middleware: finds out who asks, and whether they may.

    Args:
        app: what is behind it.
        db: where the keys are.
        always: demands a key also where there has never been one: the server can be reached from elsewhere.
    """

    def __init__(self, app: ASGIApp, db: Database, *, always: bool) -> None:
        self._app, self._db, self._always = app, db, always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through with its caller, or refuses it."""
        if scope["type"] == "websocket":  # there are none, and whoever adds one has to think of its keys
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and not _is_open(scope):
            try:
                scope[CALLER] = await self._admit(scope)
            except ApiError as refusal:
                if scope["method"] not in LOOKS:  # a client that is still sending sees that it need not go on
                    refusal.headers["Connection"] = "close"
                await render(refusal.status, refusal.body, refusal.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        try:
            caller = await run_in_threadpool(self._find, sent_key(headers, scope["method"]))
        except Unauthorized as refusal:
            if "text/html" in headers.get("accept", "") and scope["method"] in LOOKS:
                refusal.headers["WWW-Authenticate"] = f'Basic {REALM}, charset="UTF-8"'  # a browser asks
            raise
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from error
        needed = scope_of(scope["method"], scope["path"])
        if not caller.scope.allows(needed):
            raise _too_narrow(caller.scope, needed)
        return caller

    def _find(self, key: str | None) -> Caller:
        """Who has this key.

        Raises:
            Unauthorized: nobody, or it is no longer of use, or there is none and one is demanded.
        """
        if key is None:
            if self._always or keys.any_key(self._db):
                raise Unauthorized(
                    f"this server demands a key: {HOW}",
                    code="key_missing",
                    headers={"WWW-Authenticate": f"Bearer {REALM}"},
                )
            return OPERATOR
        found = keys.find_key(self._db, sha256_of(key)) if is_whole(key) else None
        if found is None:
            raise _invalid("key_unknown", _what_is_wrong(key))
        if not found.usable:
            raise _ended(found)
        return caller_of(found)


def scope_of(method: str, path: str) -> KeyScope:
    """What a key must allow for a call: looking is reading, and all that may change something is more."""
    if method in LOOKS or (method == "POST" and ASKS.fullmatch(path)):
        return KeyScope.READ
    return KeyScope.SUBMIT


def sent_key(headers: Headers, method: str) -> str | None:
    """The key of a request; None where it has none.

    Browsers, which cannot send `Bearer` by themselves, may look at pages with the key as password. Only look:
    they send a password along with whatever another site's page makes them send.

    Raises:
        Unauthorized: what it has is no key.
    """
    sent = headers.getlist("authorization")
    if not sent:
        return None
    kind, _, value = sent[0].partition(" ")
    if len(sent) == 1 and kind.lower() == "bearer":
        return value.strip()
    if len(sent) == 1 and kind.lower() == "basic" and method in LOOKS:
        with suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    raise _invalid("key_unreadable", "the header Authorization holds no key: it is to be `Bearer KEY`")


def _is_open(scope: Scope) -> bool:
    return scope["method"] in LOOKS and (scope["path"] in OPEN or PAGE.fullmatch(scope["path"]) is not None)


def _what_is_wrong(key: str) -> str:
    if is_whole(key):
        return f"this key is not known here: {HOW}"
    return f"this is no whole key: it begins with thaw_ and has 54 characters; {HOW}"


def _ended(key: ApiKey) -> Unauthorized:
    if key.revoked_at is not None:
        return _invalid("key_revoked", f"the key {key.id} was revoked: {HOW}")
    return _invalid("key_expired", f"the key {key.id} has expired: {HOW}")


def _invalid(code: str, message: str) -> Unauthorized:
    challenge = f'Bearer {REALM}, error="invalid_token"'
    return Unauthorized(message, code=code, headers={"WWW-Authenticate": challenge})


def _too_narrow(has: KeyScope, needed: KeyScope) -> Forbidden:
    message = (
        f"the key has the scope {has}, and this call needs {needed}: the operator makes such a key with "
        f"`thaw keys create --scope {needed}`"
    )
    challenge = f'Bearer {REALM}, error="insufficient_scope", scope="{needed}"'
    return Forbidden(message, code="scope_missing", headers={"WWW-Authenticate": challenge})
