"""Settle a debt that will never be paid: what is owed to the sink counts as dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from ... import system
from ..counters import locked_counters
from ..folding import collect
from ..recovery import tidy
from ..segment_counts import count_segment
from ..spool import Ack, Debt, SegmentName, Spool
from .books import living_writers, segments_owed_to

__all__ = ["REASON", "Forgotten", "forget_debt"]

REASON: Final = "forgotten"
"""The key under which `status` counts these events as dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What became of a debt.

    Attributes:
        events: Given up.
        held: Segments left alone, because another process is delivering what is in them.
    """

    events: int
    held: int


def forget_debt(
    spool: Spool, debt: Debt, *, on_progress: Callable[[int, int], object] = lambda *_: None
) -> Forgotten:
    """Give up what finished processes left for a sink, and delete what nobody else is owed.

    Segments of living processes are left to them: only they may move a place in what they are
    writing, and their `flush` waits for it.

    Args:
        spool: The folder.
        debt: The sink.
        on_progress: Called with the segments done and the segments there are.

    Raises:
        OSError: If it cannot be written down; what was not is still owed.
    """
    living = living_writers(spool)
    # Listed after all writers were settled, which may add a segment.
    owed = segments_owed_to(spool, debt)
    names = [name for name in owed if name.writer not in living]
    events = held = 0
    for done, name in enumerate(names, 1):
        given_up = _forget_segment(spool, name, debt)
        if given_up is None:
            held += 1
        else:
            events += given_up
            collect(spool, name)
        on_progress(done, len(names))
    if not held and len(names) == len(owed):
        # What it says is of events that nobody sends any more.
        spool.sink_path(debt.key).unlink(missing_ok=True)
    tidy(spool)
    return Forgotten(events=events, held=held)


def _forget_segment(spool: Spool, name: SegmentName, debt: Debt) -> int | None:
    """Move the sink's place to the end; returns how many events that passed, if it may."""
    path = spool.ack_path(name, debt.key)
    lock = system.lock_file(path)
    if lock is None:
        return None
    try:
        counts = count_segment(spool, name)
        pending = counts.recorded - counts.settled[debt.key] if counts else 0
        if counts is None or not pending:
            return 0
        # Both under one lock, which `status` waits for. The place goes first: a crash between
        # the two leaves the sink's row right, and the reason a little short.
        with locked_counters(spool, exclusive=True) as total:
            ack = counts.acks[debt.key]
            settled = Ack(counts.end, ack.dead, ack.dropped + pending, ack.retries)
            system.write_at(lock, settled.encode(path.name), 0)
            system.sync_data(lock)
            dropped = total.counts.setdefault("dropped", {})
            dropped[REASON] = dropped.get(REASON, 0) + pending
            system.replace_file(spool.folder / "counters.json", msgspec.json.encode(total))
    finally:
        system.unlock_file(lock)
    return pending
