"""How often each caller may ask: a bucket of tokens for each, which fills up evenly."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

BURST_SECONDS = 2.0  # of requests may come at once
MOST_CALLERS = 10_000  # that are remembered; the one that was silent longest is forgotten first


@dataclass
class _Bucket:
    tokens: float
    seen: float


class Rates:
    """Counts requests. `per_second` is what each caller may have on average; 0 counts nothing."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = per_second, clock
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> int | None:
        """Lets a request through (None), or says after how many seconds the next one will be."""
        if self._rate <= 0:
            return None
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._most, now)
            if len(self._buckets) > MOST_CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.seen) * self._rate)
        bucket.seen = now
        if bucket.tokens < 1:
            return max(1, math.ceil((1 - bucket.tokens) / self._rate))
        bucket.tokens -= 1
        return None


def caller_of(scope: Scope) -> str:
    """Whose requests are counted together: those of an address, with or without a key."""
    address = scope["client"][0] if scope.get("client") else "nobody"
    return _network(address) if ":" in address else address


def _network(address: str) -> str:
    """An IPv6 address' network: whoever has one address has all of it."""
    try:
        own = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = own.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.IPv6Network((own, 64), strict=False))
