"""`TimedProtocol`: HTTP as uvicorn speaks it, for those alone who come to the point.

uvicorn (0.54, `protocols/http/h11_impl.py`) waits for ever for the rest of a request's head: whoever opens
connections and says nothing, or a byte now and then, would have them all.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEAD_TIMEOUT", "TimedProtocol"]

HEAD_TIMEOUT: Final = 10.0
"""Seconds in which the head of a request has to be there; up to twice as many are borne."""


class TimedProtocol(H11Protocol):
    """Closes a connection on which no request has begun for a while."""

    _timer: asyncio.TimerHandle | None = None
    _seen: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._seen = self.cycle
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self._look)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._seen:
            self.transport.close()
        else:
            self._wait()
