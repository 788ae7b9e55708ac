"""Sending wire events again, as they were sent before, and noting which of them were taken."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final

from ..sinks.base import Delivery, Envelope, Sink, SinkLimits
from ..sinks.openmeter import OpenMeterSink
from ..transport.operations import Replayed, replay
from ..transport.operations.time_order import Entry
from .expected import WireEvent

__all__ = ["Resent", "as_it_is", "send_again"]

TIMEOUT: Final = 60.0
"""Seconds that may pass without a single event taken."""


class Resent:
    """What became of events that were sent again.

    Attributes:
        replayed: How many were taken, and why not all.
        taken: Ids of those the server said yes to.
        refused: Ids of those that it will never take, with its reason.
    """

    def __init__(self, replayed: Replayed, taken: frozenset[str]) -> None:
        self.replayed = replayed
        self.taken = taken
        self.refused = {each.id: each.reason for each in replayed.rejections}


class _Chosen:
    """A few events as `replay` reads them, oldest first."""

    unreadable = 0

    def __init__(self, events: Iterable[WireEvent]) -> None:
        chosen = sorted(((event.time, event.id), event.body) for event in events)
        self._events: list[tuple[Entry, bytes | None]] = [
            (Entry(time * 1_000_000, event_id), body) for (time, event_id), body in chosen
        ]

    @property
    def total(self) -> int:
        return len(self._events)

    def read(self, last: Entry | None, limit: int) -> list[tuple[Entry, bytes | None]]:
        start = 0 if last is None else bisect_right(self._events, last, key=itemgetter(0))
        return [*self._events[start : start + limit]]

    def close(self) -> None:
        """Nothing is open."""


class _Noting:
    """A sink, and what it took."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.taken: set[str] = set()

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def url(self) -> str:
        return self._sink.url

    @property
    def account(self) -> str:
        return self._sink.account

    @property
    def limits(self) -> SinkLimits:
        return self._sink.limits

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        delivery = self._sink.deliver(batch)
        self.taken |= delivery.accepted
        return delivery

    def close(self) -> None:
        self._sink.close()


def as_it_is(sink: OpenMeterSink) -> OpenMeterSink:
    """A sink to the same server that sends what it is given, unchanged: wire events, not records.

    A recorded event may be several on the wire, of which only some are missing.
    """
    return OpenMeterSink(
        sink.base, account=sink.account, token=sink.token, api=sink.api, name=sink.name
    )


def send_again(
    events: Iterable[WireEvent],
    sink: OpenMeterSink,
    *,
    timeout: float = TIMEOUT,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Resent:
    """Send wire events under the ids they had, oldest first.

    Args:
        events: The events; no id twice.
        sink: Which sent them.
        timeout: Seconds that may pass without one taken.
        should_stop: Asked again and again; `True` ends it after the answer under way.
        on_progress: Called with how many are settled.
    """
    noting = _Noting(as_it_is(sink))
    try:
        replayed = replay(
            _Chosen(events),
            noting,
            timeout=timeout,
            should_stop=should_stop,
            on_progress=on_progress,
        )
    finally:
        noting.close()
    return Resent(replayed, frozenset(noting.taken))
