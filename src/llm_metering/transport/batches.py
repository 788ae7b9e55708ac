"""A sink's backlog, read as batches: what comes next, past the events that are held back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..sinks.base import SinkLimits
from .backlog import Backlog
from .cursor import Cursor, Item
from .held_cursor import HeldCursor
from .journal import Journal
from .spool import Debt, Spool
from .triage import Triage

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is offered next.

    Attributes:
        cursor: The place it is from.
        items: The events.
        is_full: Whether it need not wait for company.
    """

    cursor: Cursor | HeldCursor
    items: Sequence[Item]
    is_full: bool


class Batches(Backlog):
    """A backlog whose next batch is what the triage says, be it on disk or in memory."""

    def __init__(self, spool: Spool, journal: Journal, debt: Debt) -> None:
        super().__init__(spool, journal, debt)
        self._held = [HeldCursor(journal, debt.key)]

    def next_own(self, limits: SinkLimits, triage: Triage) -> Batch | None:
        """The next events of this process; `None` if all of them are held, or there are none."""
        first = self._own[0] if self._own else None
        ready = first is not None and first.has_ready(limits.max_events)
        if not (ready and triage.is_at_rest):
            # To ask the journal for its segments takes its lock, and they may be hundreds.
            self.follow_journal()
        batch = self._choose(self._own, limits, triage) or self._choose(self._held, limits, triage)
        if batch is None:
            self._collect_new()
        return batch

    def next_adopted(self, limits: SinkLimits, triage: Triage) -> Batch | None:
        """The next events of dead processes."""
        self._held_back = len(triage.held)
        batch = self._choose(self._adopted, limits, triage)
        if batch is None:
            self._collect_new()
        return batch

    def _choose(
        self,
        cursors: Sequence[Cursor | HeldCursor],
        limits: SinkLimits,
        triage: Triage,
    ) -> Batch | None:
        if triage.is_at_rest:
            found = self._next_batch(cursors, limits)
            if found is None:
                return None
            cursor, items = found
            full = len(items) >= limits.max_events or cursor.goes_on_behind(items)
            return Batch(cursor, items, full)
        # Whatever was offered and is not settled comes first, so that these are all that the
        # triage speaks of, and a batch of others.
        aside = len(triage.held) + len(triage.heard)
        wide = replace(limits, max_events=2 * limits.max_events + aside, max_bytes=sys.maxsize)
        # While it is paused, each time one of another segment, and then another one of that.
        start = 0
        if triage.paused and cursors:
            turn, start = divmod(triage.turn, len(cursors))
            triage = replace(triage, turn=turn)
        for cursor in (*cursors[start:], *cursors[:start]):
            waiting = cursor.peek(wide)
            if not waiting:
                self._let_go(cursor)
                continue
            items = triage.choose(waiting, limits)
            if items:
                full = not triage.is_at_rest or items[-1] is not waiting[-1]
                return Batch(cursor, items, full)
        return None
