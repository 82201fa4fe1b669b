"""How many questions a minute a client may ask: a bucket of tokens each, filled at a steady rate.

A question takes a token; a bucket holds only so many, so an idle client may ask a few at once and then waits like the
others (the token bucket of Turner, 1986). Nothing here sleeps: ``take`` says how long to wait, and whoever asks decides
whether it waits or refuses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PER_MINUTE = 5.0
"""Questions a minute and client that a server should allow unless it is told otherwise. The command line has no limit."""
MOST_CLIENTS = 10_000
"""Buckets kept; beyond, those that are full again go first: a full bucket is what a new client has, too."""


@dataclass
class _Bucket:
    tokens: float
    at: float
    """When it had them."""


class Rate:
    """A limit of ``per_minute`` for each client; safe from several threads.

    ``burst`` is how many tokens a bucket holds, at least 1; ``clock`` gives seconds and never goes back.
    """

    def __init__(self, per_minute: float, burst: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        if not per_minute > 0 or not burst >= 1:
            raise ValueError(f"a rate of {per_minute} a minute in bursts of {burst} allows nothing")
        self._a_second, self._burst, self._clock = per_minute / 60, float(burst), clock
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, client: str = "") -> float:
        """0 where the client may ask now, and a token is gone; else the seconds until it may, and none is gone.

        >>> rate = Rate(6, clock=lambda: 0.0)
        >>> rate.take("a"), rate.take("a"), rate.take("b")
        (0.0, 10.0, 0.0)
        """
        with self._lock:
            now = self._clock()
            bucket = self._buckets.get(client)
            tokens = self._burst if bucket is None else self._filled(bucket, now)
            if tokens < 1 - 1e-9:
                return (1 - tokens) / self._a_second
            self._buckets[client] = _Bucket(max(tokens - 1, 0.0), now)
            if len(self._buckets) > MOST_CLIENTS:
                self._forget(now)
            return 0.0

    def wait(self, cancel: threading.Event, client: str = "") -> bool:
        """Wait until the client may ask, and take the token; False where ``cancel`` was set before."""
        while seconds := self.take(client):
            if cancel.wait(seconds):
                return False
        return True

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._burst, bucket.tokens + (now - bucket.at) * self._a_second)

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again and, where that is not enough, those that were used longest ago."""
        left = {name: one for name, one in self._buckets.items() if self._filled(one, now) < self._burst}
        newest = sorted(left.items(), key=lambda item: item[1].at)[-(MOST_CLIENTS // 2) :]
        self._buckets = left if len(left) <= MOST_CLIENTS // 2 else dict(newest)
