"""What one sink has still to be sent: our own segments, and those of dead processes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .. import system
from ..handoff import Turn
from ..sinks.base import SinkLimits
from .cursor import Cursor, Item
from .folding import collect_all
from .held_cursor import HeldCursor
from .journal import Journal
from .progress import Progress
from .recovery import mend_segments, settle_writer, tidy
from .spool import Debt, SegmentName, Spool
from .tally import Tally

__all__ = ["Backlog"]

HELD_AT_ONCE: Final = 8
"""Segments with their files open, beside those that hold an event which is held back; a long outage
leaves thousands, and the application has only so many descriptors."""

COLLECTED_AT_ONCE: Final = 8
"""Segments that are let go together while there is more to send."""


class _Turns:
    """One lock for each folder: the sinks of a process look at its orphans one after another.

    Settling a writer and looking whether a segment may go take file locks, for as long as a
    large segment takes to read. Another sink that came meanwhile could not tell them from those
    of another process that ships, and would come back only in its next round.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, Turn] = {}
        system.on_fork(self)

    def of(self, spool: Spool) -> Turn:
        """The lock of a folder."""
        return self._locks.setdefault(spool.folder, Turn())

    def after_fork(self) -> None:
        """Forget locks that a thread of the parent's may have been holding."""
        self._locks = {}


_turns: Final = _Turns()


class Backlog:
    """Knows which segments are owed to a sink, and which of their events come next.

    Args:
        spool: The folder of all journals.
        journal: This process's own.
        debt: What the sink is owed under.

    Attributes:
        has_newcomers: When last looked for, there were writers that seem to live, or orphans
            that somebody else held, and did not before. Such a writer may be dead and just
            being settled, and such an orphan just being looked at by who is through with it:
            another process, for milliseconds.
    """

    def __init__(self, spool: Spool, journal: Journal, debt: Debt) -> None:
        self._spool = spool
        self._journal = journal
        self._debt = debt
        self._own: list[Cursor] = []
        self._adopted: list[Cursor] = []
        # How many events are held back, which are few: each may be all that is left of a segment.
        self._held_back = 0
        self._through: dict[SegmentName, Tally | None] = {}
        self._progress = Progress()
        self._orphans: deque[SegmentName] = deque()
        self._uncollected = 0
        self._alive: set[str] = set()
        self._contested: set[SegmentName] = set()
        self.has_newcomers = False

    def __len__(self) -> int:
        """Segments in hand."""
        return len(self._own) + len(self._adopted)

    @property
    def can_adopt(self) -> bool:
        """Whether there were more orphans than could be taken at once, and there is room now."""
        return bool(self._orphans) and len(self._adopted) <= self._held_back

    @property
    def own_settled(self) -> int:
        """How many of this process's own events are settled, from the first on without a gap."""
        return self._progress.settled(self._own)

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
        with _turns.of(self._spool):
            gone = collect_all(self._spool, self._through)
        for name in gone:
            self._through.pop(name)
            self._journal.forget(name)

    def adopt(self) -> list[Cursor]:
        """Look for the segments of dead processes that are owed to this sink, and take them.

        Returns:
            Those that are new in hand.
        """
        with _turns.of(self._spool):
            with contextlib.suppress(OSError):  # a full disk; those wait
                mend_segments(self._spool)
            dead = self._dead_writers()
            held = {cursor.name for cursor in self._adopted} | self._through.keys()
            self._orphans = deque(
                name
                for name in self._spool.segments()
                if name.writer in dead and name not in held and self._is_owed(name)
            )
            before, self._contested = self._contested, set()
            adopted = self._take_orphans()
            self.has_newcomers |= not self._contested <= before
            tidy(self._spool)
            return adopted

    def adopt_more(self) -> list[Cursor]:
        """Take more of the segments that were found, as `adopt` does.

        Not by another look for them: after a long outage there are thousands, and to find them takes
        longer than to send eight.
        """
        with _turns.of(self._spool):
            return self._take_orphans()

    def _take_orphans(self) -> list[Cursor]:
        adopted: list[Cursor] = []
        while self._orphans and len(self._adopted) < HELD_AT_ONCE + self._held_back:
            name = self._orphans.popleft()
            cursor = Cursor.acquire(self._spool, name, self._debt)
            if cursor is None:
                self._contested.add(name)
                continue
            cursor.extend(cursor.size_on_disk)
            self._adopted.append(cursor)
            adopted.append(cursor)
        return adopted

    def _is_owed(self, name: SegmentName) -> bool:
        header = self._spool.header(name)
        return header is not None and any(debt.key == self._debt.key for debt in header.debts)

    def give_up(self, name: SegmentName) -> list[str] | None:
        """Settle what is left of a segment as dropped.

        Returns:
            The ids of these events; `None` if the segment is still written, or another process
            has it.
        """
        if name.writer == self._journal.writer:
            finished = {each.name: each for each in self._journal.segments() if each.finished}
            if name not in finished:
                return None
        held = next((each for each in (*self._own, *self._adopted) if each.name == name), None)
        own = name.writer == self._journal.writer
        if held is None and not own and not self._spool.is_finished(name.writer):
            return None
        cursor = held or Cursor.acquire(self._spool, name, self._debt, own=own)
        if cursor is None:
            return None
        cursor.extend(cursor.size_on_disk)
        events = cursor.give_up()
        if cursor in self._own:
            self._own.remove(cursor)
        elif cursor in self._adopted:
            self._adopted.remove(cursor)
        self._finish(cursor)
        return events

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
        self, cursors: Sequence[Cursor | HeldCursor], limits: SinkLimits
    ) -> tuple[Cursor | HeldCursor, list[Item]] | None:
        for cursor in list(cursors):
            batch = cursor.peek(limits)
            if batch:
                return cursor, batch
            self._let_go(cursor)
        return None

    def _let_go(self, cursor: Cursor | HeldCursor) -> None:
        """Be done with a dead process's segment; our own ones are when they are finished."""
        if isinstance(cursor, Cursor) and not cursor.own and cursor.save():
            self._adopted.remove(cursor)
            self._finish(cursor)

    def _finish(self, cursor: Cursor) -> None:
        cursor.close()
        if cursor.own:
            self._progress.through(cursor)
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
