"""Before any route: who asks under a foreign name, from a foreign page or too often is refused."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ApiError, TooManyRequests, answer_of
from app.hosts import check_host, check_origin
from app.patience import patient
from app.rates import Rates, caller_of


class Guards:
    """ASGI middleware.

    Args:
        app: what is guarded.
        hosts: names that the server goes by, beside `localhost` and addresses.
        rates: how often each caller may ask.
        seconds: how long a body is waited for, see `patient`.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], rates: Rates, seconds: float) -> None:
        self._app, self._hosts, self._rates, self._seconds = app, hosts, rates, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or lets it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ApiError as error:
            await answer_of(error)(scope, receive, send)
            return
        await self._app(scope, patient(receive, self._seconds), send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        own = check_host(headers, self._hosts)
        check_origin(scope["method"], headers, own)
        seconds = self._rates.take(caller_of(scope))
        if seconds is not None:
            raise TooManyRequests(seconds)
