"""The recorded events of a span, as the wire events that a server should hold, piece by piece."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from ..errors import LedgerError
from ..ledger import Ledger
from ..sinks._payload import UnusableEventError
from ..sinks.openmeter import OpenMeterSink
from ..transport.operations import LedgerRecords
from .collisions import Collisions
from .comparison import SumMeter
from .expected import WireEvent, wire_events

__all__ = ["Span"]

_PIECE: Final = 960
"""Events read at once: ten requests of the list of v2."""

Sums = defaultdict[str, defaultdict[str, Decimal]]


class Span:
    """What was recorded from one moment to another.

    Args:
        ledger: Where it is read.
        sink: What sends it.
        source: The CloudEvents source.
        start: First moment that counts.
        end: First moment that no longer counts.
        meters: Whose sums are added up on the way.

    Attributes:
        sums: By meter and subject: what the events add to it, as far as they were read.
        sent: How many wire events there are, as far as they were read.
        unusable: Recorded events that the sink sends nothing for: with the reason.

    Raises:
        LedgerError: If it cannot be read, or bodies of events of the span were given up.
        HomeError: If there is no room for temporary files.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: OpenMeterSink,
        *,
        source: str,
        start: datetime,
        end: datetime,
        meters: Sequence[SumMeter],
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._source = source
        self._meters = meters
        pruned = ledger.pruned_before()
        if pruned is not None and start < pruned:
            # What was sent is made of the bodies: sums without them would be too small.
            raise LedgerError(
                f"bodies of events before {pruned.isoformat()} were given up: what was sent of them "
                "is not known any more; --since that time or later can be compared"
            )
        self._records = LedgerRecords(ledger, source=source, start=start, end=end)
        self.sums: Sums = defaultdict(lambda: defaultdict(Decimal))
        self.sent = 0
        self.unusable: dict[str, str] = {}
        # Two recorded events have one id on the wire only where it is not made of their own.
        self._by_response = sink.event_id == "response"
        self.collisions = Collisions(self._ids() if self._by_response else ())

    def __repr__(self) -> str:
        return f"<Span {self._source} records={self.total}>"

    @property
    def total(self) -> int:
        """How many recorded events there are."""
        return self._records.total

    def portions(
        self, on_read: Callable[[int], object] = lambda _: None
    ) -> Iterator[list[WireEvent]]:
        """Every wire event but those whose ids collide, oldest first, some at a time.

        Args:
            on_read: Called with how many recorded events were read.
        """
        read = 0
        for records in self._pieces():
            events = [event for _, sent in records for event in sent]
            self._add(events)
            yield [event for event in events if event.id not in self.collisions]
            read += len(records)
            on_read(read)

    def colliding(self) -> Iterator[tuple[str, list[WireEvent]]]:
        """Each id that several recorded events have, with these."""
        for wire_id, records in self.collisions.records.items():
            payloads = self._ledger.payloads(records, source=self._source)
            yield (
                wire_id,
                [
                    event
                    for record, payload in sorted(payloads.items())
                    for event in wire_events(self._sink, record, payload)
                    if event.id == wire_id
                ],
            )

    def knows(self, wire_ids: Sequence[str]) -> set[str]:
        """Those of the ids that are of recorded events."""
        if self._by_response:
            return self.collisions.known(wire_ids)
        # An id of ours is the record's, with or without a kind behind a colon.
        records = {each for wire_id in wire_ids for each in (wire_id, wire_id.rpartition(":")[0])}
        known: set[str] = set()
        pruned = self._ledger.without_body(records - {""}, source=self._source)
        known.update(
            each for each in wire_ids if each in pruned or each.rpartition(":")[0] in pruned
        )
        for record, payload in self._ledger.payloads(records - {""}, source=self._source).items():
            with contextlib.suppress(UnusableEventError):
                known.update(event.id for event in wire_events(self._sink, record, payload))
        return known.intersection(wire_ids)

    def close(self) -> None:
        """Let go of files."""
        self._records.close()
        self.collisions.close()

    def _ids(self) -> Iterator[tuple[str, str]]:
        for records in self._pieces():
            for record, sent in records:
                yield from ((event.id, record) for event in sent)

    def _pieces(self) -> Iterator[list[tuple[str, list[WireEvent]]]]:
        last = None
        while found := self._records.read(last, _PIECE):
            last = found[-1][0]
            piece = []
            for entry, payload in found:
                if payload is None:
                    raise LedgerError("bodies of events were given up meanwhile; run it again")
                try:
                    piece.append((entry.id, wire_events(self._sink, entry.id, payload)))
                except UnusableEventError as error:
                    self.unusable[entry.id] = str(error)
            yield piece

    def _add(self, events: Sequence[WireEvent]) -> None:
        self.sent += len(events)
        for meter in self._meters:
            sums = self.sums[meter.slug]
            for event in events:
                value = meter.value(event)
                if value is not None:
                    sums[event.subject] += value
