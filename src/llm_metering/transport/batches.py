"""A sink's backlog, read as batches: what comes next, past the events that are held back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..sinks.base import SinkLimits
from .backlog import Backlog
from .cursor import Cursor, Item
from .triage import Triage

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is offered next.

    Attributes:
        cursor: The place in the segment it is from.
        items: The events.
        is_full: Whether it need not wait for company.
    """

    cursor: Cursor
    items: Sequence[Item]
    is_full: bool


class Batches(Backlog):
    """A backlog whose next batch is what the triage says."""

    def next_own(
        self, limits: SinkLimits, triage: Triage, kept_back: frozenset[str]
    ) -> Batch | None:
        """The next events of this process; `None` if all of them are held, or there are none."""
        first = self._own[0] if self._own else None
        ready = first is not None and first.has_ready(limits.max_events)
        if not (ready and triage.is_at_rest and not kept_back):
            # To ask the journal for its segments takes its lock, and they may be hundreds.
            self.follow_journal()
        batch = self._choose(self._own, limits, triage, kept_back)
        if batch is None:
            self._collect_new()
        return batch

    def next_adopted(
        self, limits: SinkLimits, triage: Triage, kept_back: frozenset[str]
    ) -> Batch | None:
        """The next events of dead processes."""
        batch = self._choose(self._adopted, limits, triage, kept_back)
        if batch is None:
            self._collect_new()
        return batch

    def _choose(
        self, cursors: list[Cursor], limits: SinkLimits, triage: Triage, kept_back: frozenset[str]
    ) -> Batch | None:
        if triage.is_at_rest and not kept_back:
            found = self._next_batch(cursors, limits)
            if found is None:
                return None
            cursor, items = found
            full = len(items) >= limits.max_events or cursor.goes_on_behind(items)
            return Batch(cursor, items, full)
        # Whatever was offered and is not settled comes first, so that these are all that the
        # triage speaks of, and a batch of others.
        aside = len(triage.held) + len(triage.heard) + len(kept_back)
        wide = replace(limits, max_events=2 * limits.max_events + aside, max_bytes=sys.maxsize)
        for cursor in list(cursors):
            waiting = cursor.peek(wide)
            if not waiting:
                if not cursor.own and cursor.save():
                    cursors.remove(cursor)
                    self._finish(cursor)
                continue
            waiting = [item for item in waiting if item.envelope.id not in kept_back]
            items = triage.choose(waiting, limits)
            if items:
                full = not triage.is_at_rest or items[-1] is not waiting[-1]
                return Batch(cursor, items, full)
        return None
