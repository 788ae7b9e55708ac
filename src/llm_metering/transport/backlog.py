"""What one sink has still to be sent: our own segments, and those of dead processes."""

from __future__ import annotations

import contextlib
from typing import Final

from ..sinks.base import SinkLimits
from .counters import collect_all
from .cursor import Cursor, Item
from .journal import Journal
from .recovery import mend_segments, settle_writer, tidy
from .spool import Debt, SegmentName, Spool
from .tally import Tally

__all__ = ["Backlog"]

HELD_AT_ONCE: Final = 8
"""Segments with their files open; a long outage leaves thousands, and the application has only
so many descriptors."""

COLLECTED_AT_ONCE: Final = 8
"""Segments that are let go together while there is more to send."""


class Backlog:
    """Knows which segments are owed to a sink, and which of their events come next.

    Args:
        spool: The folder of all journals.
        journal: This process's own.
        debt: What the sink is owed under.

    Attributes:
        has_newcomers: When last looked for, there were writers that seem to live and did not
            before. One of them may be dead and just being settled, by another sink's thread
            or another process, which takes milliseconds.
    """

    def __init__(self, spool: Spool, journal: Journal, debt: Debt) -> None:
        self._spool = spool
        self._journal = journal
        self._debt = debt
        self._own: list[Cursor] = []
        self._adopted: list[Cursor] = []
        self._through: dict[SegmentName, Tally | None] = {}
        self._uncollected = 0
        self._more_orphans = False
        self._alive: set[str] = set()
        self.has_newcomers = False

    def __len__(self) -> int:
        """Segments in hand."""
        return len(self._own) + len(self._adopted)

    @property
    def can_adopt(self) -> bool:
        """Whether there were more orphans than could be taken at once, and there is room now."""
        return self._more_orphans and not self._adopted

    def own_batch(self, limits: SinkLimits) -> tuple[Cursor, list[Item]] | None:
        """The next events of this process."""
        return self._next_batch(self._own, limits)

    def adopted_batch(self, limits: SinkLimits) -> tuple[Cursor, list[Item]] | None:
        """The next events of dead processes."""
        return self._next_batch(self._adopted, limits)

    def follow_journal(self) -> None:
        """Follow our own journal: new segments, new ends, segments that are through."""
        cursors = {cursor.name: cursor for cursor in self._own}
        for segment in self._journal.segments():
            if segment.name in self._through:
                continue
            cursor = cursors.get(segment.name)
            if cursor is None:
                if len(self._own) >= HELD_AT_ONCE:
                    break  # the oldest first
                cursor = Cursor.acquire(self._spool, segment.name, self._debt, own=True)
                if cursor is None:
                    continue  # adopted by another process after our journal was closed
                self._own.append(cursor)
            cursor.extend(segment.size)
            if segment.finished and not cursor.has_ready(1) and cursor.save():
                self._own.remove(cursor)
                self._finish(cursor)

    def collect_rest(self) -> None:
        """Let go what was left because another sink was still busy with it, or until now."""
        self._uncollected = 0
        for name in collect_all(self._spool, self._through):
            self._through.pop(name)
            self._journal.forget(name)

    def adopt(self) -> None:
        """Take the segments of dead processes that are owed to this sink."""
        with contextlib.suppress(OSError):  # a full disk; those wait
            mend_segments(self._spool)
        dead = self._dead_writers()
        held = {cursor.name for cursor in self._adopted} | self._through.keys()
        self._more_orphans = False
        for name in self._spool.segments():
            if name.writer not in dead or name in held:
                continue
            header = self._spool.header(name)
            if header is None or all(debt.key != self._debt.key for debt in header.debts):
                continue
            if len(self._adopted) >= HELD_AT_ONCE:
                self._more_orphans = True
                break
            cursor = Cursor.acquire(self._spool, name, self._debt)
            if cursor is not None:
                cursor.extend(self._spool.segment_path(name).stat().st_size)
                self._adopted.append(cursor)
        tidy(self._spool)

    def release(self) -> None:
        """Let go of all segments; what is not settled in them is for whoever comes next."""
        for cursor in (*self._own, *self._adopted):
            cursor.close()
        self._own, self._adopted = [], []

    def disown(self) -> None:
        """In a forked child: close what is the parent's, and leave its locks to it."""
        for cursor in (*self._own, *self._adopted):
            cursor.disown()
        self._own, self._adopted = [], []

    def _next_batch(
        self, cursors: list[Cursor], limits: SinkLimits
    ) -> tuple[Cursor, list[Item]] | None:
        for cursor in list(cursors):
            batch = cursor.peek(limits)
            if batch:
                return cursor, batch
            if not cursor.own and cursor.save():
                cursors.remove(cursor)
                self._finish(cursor)
        return None

    def _finish(self, cursor: Cursor) -> None:
        cursor.close()
        self._through[cursor.name] = cursor.tally
        self._uncollected += 1
        # Not each by itself while there is more to send: the sums are synced each time.
        if self._uncollected >= COLLECTED_AT_ONCE:
            self.collect_rest()

    def _collect_new(self) -> None:
        """Let go of what is through, now that there is nothing to send."""
        if self._uncollected:
            self.collect_rest()

    def _dead_writers(self) -> set[str]:
        """The other writers that have ended, with their open calls settled."""
        # All of them before any is adopted: settling may add a segment.
        spool = self._spool
        writers = {n.writer for n in spool.segments() if spool.header(n) or spool.is_empty(n)}
        # Not our own, which lives for sure: nobody would ever be done with waiting for it.
        writers.discard(self._journal.writer)
        dead: set[str] = set()
        for writer in sorted(writers):
            with contextlib.suppress(OSError):  # a full disk; that one waits
                if settle_writer(spool, writer):
                    dead.add(writer)
        alive = writers - dead
        self.has_newcomers = not alive <= self._alive
        self._alive = alive
        return dead
