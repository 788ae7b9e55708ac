"""An end for a whole HTTP exchange, in which each read has a time-out of its own.

Source: the `trace` extension of https://www.encode.io/httpcore/extensions/ (httpcore 1.0.9), which
hands over each connection that is made; `httpcore/_sync/http11.py`, which reads headers in as many
pieces as they come in, each of them with all of the time-out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpcore

__all__ = ["Deadline"]

_CONNECTED: Final = (".connect_tcp.complete", ".start_tls.complete")


class Deadline:
    """By when the exchange of a thread has to be over; for requests of httpx and httpcore.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._thread = threading.local()

    def begin(self, seconds: float) -> dict[str, Any]:
        """Set it, for what this thread does next.

        Args:
            seconds: From now on.

        Returns:
            The extensions of a request that is to keep to it.
        """
        self._thread.until = self._clock() + seconds
        limits = dict.fromkeys(("connect", "read", "write", "pool"), seconds)

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event.endswith(_CONNECTED):
                self._bind(info["return_value"])
            # What comes next has what is left.
            limits.update(dict.fromkeys(limits, max(self.left(), 0.001)))

        return {"timeout": limits, "trace": trace}

    def left(self) -> float:
        """Seconds that this thread has left; below 0 it is too late."""
        until: float = self._thread.until
        return until - self._clock()

    def _bind(self, stream: httpcore.NetworkStream) -> None:
        """Have a connection read no longer than whoever reads from it may."""
        read = stream.read

        def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
            left = self.left()
            if left <= 0:
                raise httpcore.ReadTimeout("the answer does not end")
            return read(max_bytes, timeout=left if timeout is None else min(left, timeout))

        setattr(stream, "read", bounded)  # noqa: B010 - a method, which mypy lets nobody set
