"""`Sources`: a meter for each application whose events come in.

A journal's segments name one source, and processes of that source take over what one of them left; so
what comes from several applications is in several journals, each with its own shippers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

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
        self._spool = Spool(meter.settings.home)
        # What is put aside ships what it has at first, which nobody else waits for.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="llm-metering-aside")

    def __repr__(self) -> str:
        return f"<Sources {len(self._meters)}>"

    def of(self, source: str) -> Meter:
        """The meter that records events of a source."""
        if source == self._meter.settings.source:
            return self._meter
        with self._lock:
            meter = self._meters.get(source)
            if meter is None:
                meter = self._meters[source] = self._meter.made_with(source=source)
                meter.start()
                self._put_aside()
            else:
                self._meters.move_to_end(source)
        return meter

    def meters(self) -> list[Meter]:
        """The meters that are in hand, the server's own first."""
        with self._lock:
            return [self._meter, *self._meters.values()]

    def begin(self) -> None:
        """Ship what earlier servers left, of whatever source."""
        self._meter.start()
        self.catch_up()

    def catch_up(self) -> None:
        """Go on with what was left: by sources that were put aside, and by processes that died."""
        left = set()
        for name in self._spool.segments():
            header = self._spool.header(name)
            if header is not None and self._spool.is_finished(name.writer):
                left.add(header.source)
        with self._lock:
            left.difference_update(self._meters)
            room = max(self._most - len(self._meters), 1)
        for source in sorted(left)[:room]:
            self.of(source)

    def flush(self, timeout: float) -> bool:
        """Wait until every sink has what was recorded before; whether it has."""
        deadline = time.monotonic() + timeout
        done = [meter.flush(max(deadline - time.monotonic(), 0.0)) for meter in self.meters()]
        return all(done)

    def close(self, timeout: float) -> bool:
        """Ship what can be shipped in time, and let go of all but the server's own meter."""
        deadline = time.monotonic() + timeout
        with self._lock:
            meters = list(self._meters.values())
            self._meters.clear()
        done = [meter.close(max(deadline - time.monotonic(), 0.0)) for meter in meters]
        self._aside.shutdown()
        return all(done)

    def _put_aside(self) -> None:
        """Close those that were silent for longest, while there are too many."""
        for source in list(self._meters)[:-1]:
            if len(self._meters) <= self._most:
                return
            # One with something in memory, since the disk takes nothing, has to be there when it does.
            if self._meters[source].secured() is None:
                # Who has it in hand still may record: that goes into a file of its own.
                self._aside.submit(self._meters.pop(source).close, _PUT_ASIDE_IN)
