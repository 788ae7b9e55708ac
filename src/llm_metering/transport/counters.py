"""What has been counted in a home since it was made, and the end of a segment's life.

A segment is its own book: how many events it recorded can be read from it, and what became of
them from the acknowledgements beside it. When every sink has had it, its counts are folded into
`counters.json` and it is deleted. The fold names the segment, so that a crash between the two
counts nothing twice.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from .. import system
from .frames import Kind, parse_frames
from .held import FLAGS_NOTE, MEMORY_NOTE
from .spool import Ack, Debt, Header, SegmentName, Spool

__all__ = ["Counters", "SegmentCounts", "SinkCounts", "collect", "count_segment", "read_counters"]

LOCK_TIMEOUT: Final = 2.0
"""Seconds to wait for somebody who is folding, which takes milliseconds."""


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
    """The sums of deleted segments.

    Attributes:
        recorded: Events recorded.
        counts: Counted notes: name, then key.
        flags: Events by flag.
        sinks: By the debt's key.
        folded: Segments that are in the sums and may still be on disk.
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


class _Note(msgspec.Struct):
    name: str
    key: str
    amount: int


@dataclass(slots=True)
class SegmentCounts:
    """What one segment holds.

    Attributes:
        header: Its header.
        recorded: Events in it.
        end: The end of its last whole frame.
        corrupt: Bytes in its middle that are no record.
        torn: Bytes behind its last whole frame.
        counts: Counted notes by name and key.
        flags: Events by flag.
        from_memory: Events that went to every sink without ever being in a segment: `recorded`,
            and `dead:` with a debt's key.
        acks: Each sink's place in it, by the debt's key.
        settled: Events before that place.
        oldest: The first event behind that place.
        opened: Ids of calls noted as started.
        closed: Ids of calls that ended, with an event or without.
    """

    header: Header
    recorded: int = 0
    end: int = 0
    corrupt: int = 0
    torn: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    from_memory: Counter[str] = field(default_factory=Counter)
    acks: dict[str, Ack] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    oldest: dict[str, bytes] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)

    def add_note(self, note: _Note) -> None:
        """Count what a note says."""
        if note.name == MEMORY_NOTE:
            self.from_memory[note.key] += note.amount
        elif note.name == FLAGS_NOTE:
            self.flags[note.key] += note.amount
        else:
            self.counts[note.name, note.key] += note.amount


class _Data(msgspec.Struct):
    flags: list[str] = msgspec.field(default_factory=list)


class _Flagged(msgspec.Struct):
    id: str
    data: _Data


_sums = msgspec.json.Decoder(Counters)
_notes = msgspec.json.Decoder(_Note)
_flagged = msgspec.json.Decoder(_Flagged)


def count_segment(spool: Spool, name: SegmentName) -> SegmentCounts | None:
    """Read a segment through; `None` if it is gone or not ours to read."""
    header = spool.header(name)
    if header is None:
        return None
    acks = {debt.key: spool.read_ack(name, debt.key) for debt in header.debts}
    try:
        content = spool.segment_path(name).read_bytes()
    except FileNotFoundError:
        return None
    parsed = parse_frames(content)
    counts = SegmentCounts(header, end=parsed.end, corrupt=parsed.corrupt, acks=acks)
    counts.torn = len(content) - parsed.end
    counts.settled = dict.fromkeys(acks, 0)
    for frame in parsed.frames:
        if frame.kind == Kind.EVENT:
            counts.recorded += 1
            event = _flagged.decode(frame.payload)
            # Behind a colon stand details, such as names that a server chose: without end.
            counts.flags.update(flag.partition(":")[0] for flag in event.data.flags)
            counts.closed.add(event.id)
            for key, ack in acks.items():
                if frame.end <= ack.offset:
                    counts.settled[key] += 1
                else:
                    counts.oldest.setdefault(key, frame.payload)
        elif frame.kind == Kind.COUNT:
            counts.add_note(_notes.decode(frame.payload))
        elif frame.kind == Kind.OPEN:
            counts.opened.add(_flagged.decode(frame.payload).id)
        elif frame.kind == Kind.CLOSED:
            counts.closed.add(frame.payload.decode())
    # In the segment of a living writer it may be a record that is just being written.
    if counts.torn and spool.is_finished(name.writer):
        counts.counts["damage", "torn_bytes"] += counts.torn
    if counts.corrupt:
        counts.counts["damage", "corrupt_bytes"] += counts.corrupt
    return counts


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
    """The sums of deleted segments; if they cannot be read, none, with a count that says so."""
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
    """Fold and delete a finished segment, if every sink it is owed to has had it.

    Returns:
        Whether it is gone.
    """
    header = spool.header(name)
    if header is None:
        return not spool.segment_path(name).exists()
    if not spool.is_finished(name.writer) and spool.segments_of(name.writer)[:1] != [name]:
        # While its writer may still die, no segment goes before an older one: it alone may say
        # that a call which the older one noted as started has ended.
        return False
    with contextlib.ExitStack() as held:
        for debt in header.debts:
            # Held by the sink's shipper as long as it is not through.
            lock = system.lock_file(spool.ack_path(name, debt.key))
            if lock is None:
                return False
            held.callback(system.unlock_file, lock)
        counts = count_segment(spool, name)
        if counts is None:
            return True
        if any(settled < counts.recorded for settled in counts.settled.values()):
            return False
        try:
            _fold_and_delete(spool, name, counts)
        except OSError:  # a full disk, or somebody who holds on to the counters: later then
            return False
    return True


def _fold_and_delete(spool: Spool, name: SegmentName, counts: SegmentCounts) -> None:
    with locked_counters(spool, exclusive=True) as total:
        if str(name) not in total.folded:
            total.add(counts)
            on_disk = {str(other) for other in spool.segments()}
            total.folded = [*(old for old in total.folded if old in on_disk), str(name)]
            system.replace_file(spool.folder / "counters.json", msgspec.json.encode(total))
        # First the segment: an acknowledgement without its segment is litter, a segment
        # without its acknowledgements would be sent again.
        spool.segment_path(name).unlink(missing_ok=True)
        for debt in counts.header.debts:
            spool.ack_path(name, debt.key).unlink(missing_ok=True)
        if not spool.segments_of(name.writer):
            spool.dead_mark(name.writer).unlink(missing_ok=True)
