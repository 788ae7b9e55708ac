"""What one segment holds, and what became of it.

A segment is its own book: how many events it recorded can be read from it, and what became of
them from the acknowledgements beside it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter

from .. import system
from .frames import Kind, Parsed, read_frames
from .payloads import Item
from .spool import Ack, Header, SegmentName, Spool
from .tally import Tally

__all__ = ["SegmentCounts", "count_segment", "count_settled"]


@dataclass(slots=True, kw_only=True)
class SegmentCounts(Tally):
    """What one segment holds.

    Attributes:
        header: Its header.
        torn: Bytes behind its last whole frame.
        acks: Each sink's place in it, by the debt's key.
        settled: Events before that place.
        oldest: The first event behind that place.
        opened: Ids of calls noted as started.
        closed: Ids of calls that ended, with an event or without.
    """

    header: Header
    torn: int = 0
    acks: dict[str, Ack] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    oldest: dict[str, bytes] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)

    def take(self, parsed: Parsed) -> list[Item]:
        """Count what was read next; returns the events of it."""
        items = Tally.take(self, parsed)
        self.closed.update([item.id for item in items])
        for key, ack in self.acks.items():
            # In order, so that those before the place are the first ones.
            settled = bisect_right(items, ack.offset, key=attrgetter("end"))
            self.settled[key] += settled
            if settled < len(items):
                self.oldest.setdefault(key, items[settled].payload)
        return items

    def see_opened(self, call: str) -> None:
        """A call was noted as started."""
        self.opened.add(call)

    def see_closed(self, call: str) -> None:
        """A call was noted as ended without an event."""
        self.closed.add(call)


def count_segment(spool: Spool, name: SegmentName) -> SegmentCounts | None:
    """Read a segment through; `None` if it is gone or not ours to read."""
    header = spool.header(name)
    if header is None:
        return None
    acks = {debt.key: spool.read_ack(name, debt.key) for debt in header.debts}
    counts = SegmentCounts(header=header, acks=acks, settled=dict.fromkeys(acks, 0))
    try:
        with open(spool.segment_path(name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            # In pieces: the events of a whole segment would be several times its size.
            for parsed in _pieces(file.fileno(), 0, size):
                counts.take(parsed)
    except FileNotFoundError:
        return None
    counts.torn = size - counts.end
    # In the segment of a living writer it may be a record that is just being written.
    if counts.torn and spool.is_finished(name.writer):
        counts.counts["damage", "torn_bytes"] += counts.torn
    if counts.corrupt:
        counts.counts["damage", "corrupt_bytes"] += counts.corrupt
    return counts


def count_settled(
    spool: Spool, name: SegmentName, header: Header, tally: Tally | None
) -> SegmentCounts | None:
    """Count a segment, quickly where that is in vain or was done; `None` if it is gone."""
    acks = {debt.key: spool.read_ack(name, debt.key) for debt in header.debts}
    place = min((ack.offset for ack in acks.values()), default=0)
    try:
        with open(spool.segment_path(name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            behind = (
                frame for each in _pieces(file.fileno(), place, size) for frame in each.frames
            )
            if any(frame.kind == Kind.EVENT for frame in behind):
                # As in an outage, when the sinks that go on are through with one after the other.
                return SegmentCounts(header=header, recorded=1, settled=dict.fromkeys(acks, 0))
    except FileNotFoundError:
        return None
    if tally is None or tally.end != size or tally.corrupt:
        return count_segment(spool, name)
    return SegmentCounts(
        header=header,
        recorded=tally.recorded,
        end=tally.end,
        counts=tally.counts,
        flags=tally.flags,
        from_memory=tally.from_memory,
        acks=acks,
        settled=dict.fromkeys(acks, tally.recorded),
    )


def _pieces(descriptor: int, offset: int, size: int) -> Iterator[Parsed]:
    """What a segment holds from an offset on, piece by piece."""
    while True:
        parsed = read_frames(partial(system.read_at, descriptor), offset, size)
        if not parsed.frames and parsed.end == offset:
            return
        offset = parsed.end
        yield parsed
