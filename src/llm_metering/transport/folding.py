"""The end of a segment's life: when every sink has had it, it is folded and leaves the journal.

Its counts go into `counters.json`, it goes to the folder of those that are kept, and its
acknowledgements are deleted, in this order. The fold names the segment, so that a crash between
the first two counts nothing twice.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Container, Mapping
from typing import Final

import msgspec

from .. import system
from .counters import locked_counters
from .kept import give_way, keep_segment
from .quarantine import keep_evidence
from .segment_counts import SegmentCounts, count_settled
from .spool import Header, SegmentName, Spool
from .tally import Tally

__all__ = ["collect", "collect_all"]

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FOLD_NEEDS: Final = 1 << 20
"""Bytes of kept segments that go where the sums cannot be written."""


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
                counts = count_settled(spool, name, header, tallies[name])
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
