"""`Rates`: how fast a key may go, in this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Rates"]

_BURST: Final = 10.0
"""Seconds' worth of requests that may come at once."""

_MOST: Final = 10_000


class Rates:
    """A token bucket for each key: at its rate on average, a few seconds' worth at once.

    Args:
        clock: Monotonic, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Rates {len(self._buckets)}>"

    def wait(self, key: str, per_minute: int) -> float:
        """Take one request of a key's.

        Args:
            key: Whose.
            per_minute: Its rate.

        Returns:
            0 if it may go; else after how many seconds the next may.
        """
        rate = per_minute / 60
        most = max(rate * _BURST, 1.0)
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(key, (most, now))
            left = min(left + (now - since) * rate, most)
            allowed = left >= 1
            # Last in the order: those that came longest ago are first, and are full again by now.
            self._buckets[key] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate
