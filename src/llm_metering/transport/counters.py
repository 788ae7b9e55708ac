"""What has been counted in a home since it was made: the sums of segments that left the journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec

from .. import system
from .segment_counts import SegmentCounts
from .spool import Debt, Spool

__all__ = ["Counters", "SinkCounts", "locked_counters", "read_counters"]

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


_sums = msgspec.json.Decoder(Counters)


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
