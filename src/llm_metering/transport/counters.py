"""What has been counted in a home since it was made, and the end of a segment's life.

A segment is its own book: how many events it recorded can be read from it, and what became of
them from the acknowledgements beside it. When every sink has had it, its counts are folded into
`counters.json`, it leaves the journal for the folder of those that are kept, and its
acknowledgements are deleted, in this order. The fold names the segment, so that a crash between
the first two counts nothing twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Final

import msgspec

from .. import system
from .frames import Kind, Parsed, read_frames
from .kept import give_way, keep_segment
from .payloads import Item
from .quarantine import keep_evidence
from .spool import Ack, Debt, Header, SegmentName, Spool
from .tally import Tally

__all__ = [
    "Counters",
    "SegmentCounts",
    "SinkCounts",
    "collect",
    "collect_all",
    "count_segment",
    "read_counters",
]

LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for somebody who is folding, which takes milliseconds."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLD_NEEDS: Final = 1 << 20
"""Bytes of kept segments that go where the sums cannot be written."""


class SinkCounts(msgspec.Struct, kw_only=True):
    """What became of the events owed to one sink.

    Attributes:
        debt: The sink.
        recorded: Events owed to it.
        acked: Events it took.
        dead: Events it will never take; they are in its dead-letter file.
        dropped: Events given up.
        retries: Deliveries tried again.
    """

    debt: Debt
    recorded: int = 0
    acked: int = 0
    dead: int = 0
    dropped: int = 0
    retries: int = 0


class Counters(msgspec.Struct, kw_only=True):
    """The sums of segments that left the journal.

    Attributes:
        recorded: Events recorded.
        counts: Counted notes: name, then key.
        flags: Events by flag.
        sinks: By the debt's key.
        folded: Segments that are in the sums and may still be in the journal.
    """

    recorded: int = 0
    counts: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    flags: dict[str, int] = msgspec.field(default_factory=dict)
    sinks: dict[str, SinkCounts] = msgspec.field(default_factory=dict)
    folded: list[str] = msgspec.field(default_factory=list)

    def add(self, counts: SegmentCounts) -> None:
        """Add what one segment counted."""
        from_memory = counts.from_memory["recorded"]
        self.recorded += counts.recorded + from_memory
        for (name, key), amount in counts.counts.items():
            by_key = self.counts.setdefault(name, {})
            by_key[key] = by_key.get(key, 0) + amount
        for flag, amount in counts.flags.items():
            self.flags[flag] = self.flags.get(flag, 0) + amount
        for debt in counts.header.debts:
            total = self.sinks.setdefault(debt.key, SinkCounts(debt=debt))
            ack = counts.acks[debt.key]
            settled = counts.settled[debt.key]
            dead_in_memory = counts.from_memory[f"dead:{debt.key}"]
            total.recorded += counts.recorded + from_memory
            total.acked += settled - ack.dead - ack.dropped + from_memory - dead_in_memory
            total.dead += ack.dead + dead_in_memory
            total.dropped += ack.dropped
            total.retries += ack.retries


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


_sums = msgspec.json.Decoder(Counters)


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


def _pieces(descriptor: int, offset: int, size: int) -> Iterator[Parsed]:
    """What a segment holds from an offset on, piece by piece."""
    while True:
        parsed = read_frames(partial(system.read_at, descriptor), offset, size)
        if not parsed.frames and parsed.end == offset:
            return
        offset = parsed.end
        yield parsed


@contextlib.contextmanager
def locked_counters(spool: Spool, *, exclusive: bool) -> Iterator[Counters]:
    """The counters, with nobody folding meanwhile (or nobody else, if `exclusive`).

    Raises:
        TimeoutError: If somebody else holds on to them, and `exclusive` is wanted. A reader
            then reads as it is: what has been folded is named, and not counted twice.
    """
    path = spool.folder / "counters.lock"
    # A reader makes no file: where nobody has folded yet, there is nobody to wait for.
    lock = system.lock_file(path, exclusive=exclusive, wait=LOCK_TIMEOUT, create=exclusive)
    if lock is None and exclusive:
        raise TimeoutError(f"another process holds {path}")
    try:
        yield read_counters(spool)
    finally:
        if lock is not None:
            system.unlock_file(lock)


def read_counters(spool: Spool) -> Counters:
    """The sums of segments that left the journal; if they cannot be read, none, with a count that says so."""
    try:
        content = (spool.folder / "counters.json").read_bytes()
    except FileNotFoundError:
        return Counters()
    try:
        return _sums.decode(content)
    except msgspec.DecodeError:
        # A medium gone bad, or somebody's editor. Shipping must go on, and status must answer.
        return Counters(counts={"damage": {"unreadable_counters": 1}})


def collect(spool: Spool, name: SegmentName) -> bool:
    """Fold a finished segment and take it out of the journal, if every sink has had it.

    Returns:
        Whether it is gone from the journal.
    """
    return name in collect_all(spool, {name: None})


def collect_all(spool: Spool, tallies: Mapping[SegmentName, Tally | None]) -> set[SegmentName]:
    """`collect` several segments, with one writing of the sums.

    Args:
        spool: The folder.
        tallies: The segments, with what was counted by somebody who read them from their
            beginning to their end. The others are read here.

    Returns:
        Those that are gone from the journal.
    """
    gone: set[SegmentName] = set()
    counted: dict[SegmentName, SegmentCounts] = {}
    with contextlib.ExitStack() as held:
        for name in sorted(tallies):
            header = spool.header(name)
            if header is None:
                if not spool.segment_path(name).exists():
                    gone.add(name)
            elif _may_go(spool, name, counted) and _lock(spool, name, header, held):
                counts = _count_settled(spool, name, header, tallies[name])
                if counts is None:
                    gone.add(name)
                elif all(each == counts.recorded for each in counts.settled.values()):
                    counted[name] = counts
        try:
            if counted:
                _fold_and_remove(spool, counted)
        except OSError as error:
            # A full disk, or somebody who holds on to the counters: later then.
            if error.errno in _NO_ROOM:
                give_way(spool, _FOLD_NEEDS)
            return gone
    return gone | counted.keys()


def _may_go(spool: Spool, name: SegmentName, going: Container[SegmentName]) -> bool:
    # While its writer may still die, no segment goes before an older one: it alone may say
    # that a call which the older one noted as started has ended.
    if spool.is_finished(name.writer):
        return True
    return next((n for n in spool.segments_of(name.writer) if n not in going), None) == name


def _lock(spool: Spool, name: SegmentName, header: Header, held: contextlib.ExitStack) -> bool:
    """Whether every sink's shipper is through with a segment, and nobody else at it."""
    with contextlib.ExitStack() as locks:
        for debt in header.debts:
            lock = system.lock_file(spool.ack_path(name, debt.key))
            if lock is None:
                return False
            locks.callback(system.unlock_file, lock)
        held.push(locks.pop_all())
    return True


def _count_settled(
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


def _fold_and_remove(spool: Spool, counted: Mapping[SegmentName, SegmentCounts]) -> None:
    with locked_counters(spool, exclusive=True) as total:
        folded = set(total.folded)
        new = [name for name in counted if str(name) not in folded]
        for name, counts in counted.items():
            if counts.corrupt:
                keep_evidence(spool, name)
        if new:
            for name in new:
                total.add(counted[name])
            on_disk = {str(other) for other in spool.segments()}
            total.folded = [*(old for old in total.folded if old in on_disk), *map(str, new)]
            system.replace_file(spool.folder / "counters.json", msgspec.json.encode(total))
        for name, counts in counted.items():
            # First the segment: an acknowledgement without its segment is litter, a segment
            # without its acknowledgements would be sent again.
            keep_segment(spool, name)
            for debt in counts.header.debts:
                spool.ack_path(name, debt.key).unlink(missing_ok=True)
        for writer in {name.writer for name in counted}:
            if not spool.segments_of(writer):
                spool.dead_mark(writer).unlink(missing_ok=True)
