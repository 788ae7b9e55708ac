"""`Sources`: a meter for each application whose events come in.

A journal's segments name one source, and processes of that source take over what one of them left; so
what comes from several applications is in several journals, each with its own shippers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from ..meter import Meter
from ..transport.spool import Spool

__all__ = ["Sources"]

_PUT_ASIDE_IN = 2.0
"""Seconds for a meter to ship what it has, before what is left waits for its next turn."""


class Sources:
    """The meters of a server, by source.

    Args:
        meter: Of the server itself: the others are as it is, but for their source.
        most: How many are open at once; the one that was silent for longest is closed for another.
    """

    def __init__(self, meter: Meter, *, most: int) -> None:
        self._meter = meter
        self._most = most
        self._lock = threading.Lock()
        self._meters: OrderedDict[str, Meter] = OrderedDict()
        self._owing: set[str] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Sources {len(self._meters)} owing={len(self._owing)}>"

    def of(self, source: str) -> Meter:
        """The meter that records events of a source."""
        if source == self._meter.settings.source:
            return self._meter
        aside = None
        with self._lock:
            meter = self._meters.get(source)
            if meter is None:
                meter = self._meters[source] = self._meter.made_with(source=source)
                meter.start()
                self._owing.discard(source)
                if len(self._meters) > self._most:
                    aside = self._meters.popitem(last=False)
            else:
                self._meters.move_to_end(source)
        if aside is not None:
            self._put_aside(*aside)
        return meter

    def begin(self) -> None:
        """Ship what earlier servers left, of whatever source."""
        self._meter.start()
        spool = Spool(self._meter.settings.home)
        headers = [spool.header(name) for name in spool.segments()]
        with self._lock:
            self._owing |= {header.source for header in headers if header is not None}
        self.catch_up()

    def catch_up(self) -> None:
        """Go on with what was left of sources that were put aside, a few at a time."""
        with self._lock:
            room = max(self._most - len(self._meters), 1)
            some = sorted(self._owing)[:room]
            self._owing.difference_update(some)
        for source in some:
            self.of(source)

    def names(self) -> list[str]:
        """The sources that are in hand."""
        with self._lock:
            return [self._meter.settings.source, *self._meters]

    def flush(self, timeout: float) -> bool:
        """Wait until every sink has what was recorded before; whether it has."""
        deadline = time.monotonic() + timeout
        with self._lock:
            meters = [self._meter, *self._meters.values()]
        done = [meter.flush(max(deadline - time.monotonic(), 0.0)) for meter in meters]
        return all(done)

    def close(self, timeout: float) -> bool:
        """Ship what can be shipped in time, and let go of all but the server's own meter."""
        deadline = time.monotonic() + timeout
        with self._lock:
            meters = list(self._meters.values())
            self._meters.clear()
        done = [meter.close(max(deadline - time.monotonic(), 0.0)) for meter in meters]
        return all(done)

    def _put_aside(self, source: str, meter: Meter) -> None:
        # Who has it in hand still may record: that goes into a file of its own, which waits as well.
        if not meter.close(_PUT_ASIDE_IN):
            with self._lock:
                self._owing.add(source)
