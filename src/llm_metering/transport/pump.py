"""One round of a sink's shipping: what is due, whether it is time, and the offer of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from ..sinks.base import Sink
from .alarms import Alarms
from .batches import Batch, Batches
from .bounds import Bound
from .cursor import Cursor
from .dispatch import Dispatcher
from .journal import Journal
from .policy import LINGER
from .spool import Debt, Spool

__all__ = ["Pump"]

ADOPT_EVERY: Final = 30.0
LOOK_AGAIN_AFTER: Final = 0.1
"""Seconds after which a writer that was locked when first seen is looked at once more."""


class Pump:
    """Moves what one sink is owed, a batch at a time.

    Used by one thread at a time.

    Args:
        sink: Where to.
        debt: What it is owed under.
        spool: The folder of all journals.
        journal: This process's own.
        alarms: Who is told of trouble.
        backlog_bytes: How much the sink may be owed on disk.
        clock: A monotonic clock, in seconds.
        wall: Seconds since 1970.
        chance: Random numbers between 0 and 1.

    Attributes:
        backlog: What the sink is owed.
        dispatch: How it answered.
        skip_backoff: The next round does not wait for the end of a backoff.
        next_adoption: When dead processes are looked for again, by the clock.
    """

    def __init__(
        self,
        sink: Sink,
        debt: Debt,
        *,
        spool: Spool,
        journal: Journal,
        alarms: Alarms,
        backlog_bytes: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._clock = clock
        self.backlog = Batches(spool, journal, debt)
        self._bound = Bound(spool, journal, debt, self.backlog, alarms, backlog_bytes)
        self.dispatch = Dispatcher(
            sink,
            debt,
            spool=spool,
            backlog=self.backlog,
            alarms=alarms,
            clock=clock,
            wall=wall,
            chance=chance,
            had=partial(journal.had_from_memory, debt.key),
        )
        self.skip_backoff = False
        self.next_adoption = 0.0
        self._waiting_since: float | None = None

    def __repr__(self) -> str:
        return f"<Pump segments={len(self.backlog)} {self.dispatch!r}>"

    def once(self, *, urgent: bool, adopt: bool) -> float | None:
        """Deliver one batch if it is time.

        Args:
            urgent: Our own events do not wait for company.
            adopt: Ship dead processes' segments as well.

        Returns:
            Seconds after which to call again, `None` if nothing waits.
        """
        try:
            return self._try(urgent=urgent, adopt=adopt)
        except Exception as error:
            self.dispatch.failed(error)
            return LINGER

    def _try(self, *, urgent: bool, adopt: bool) -> float | None:
        now = self._clock()
        if self.skip_backoff:
            self.skip_backoff = False
            self.dispatch.next_try = min(self.dispatch.next_try, self.dispatch.floor_until)
        if adopt and now >= self.next_adoption:
            self.next_adoption = now + ADOPT_EVERY
            self.backlog.collect_rest()
            self._take_over(self.backlog.adopt())
            if self.backlog.has_newcomers:
                self.next_adoption = now + LOOK_AGAIN_AFTER
            self._keep_within_bound()
        elif adopt and self.backlog.can_adopt:
            self._take_over(self.backlog.adopt_more())
        if self._bound.is_due():
            self._keep_within_bound()
        own = self.dispatch.next_own()
        if own is None:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        linger = 0.0 if own is None else self._linger(own, now, urgent=urgent)
        # Our own events go first; while they wait for company, those of dead processes.
        due = own if linger <= 0 else None
        if due is None and adopt:
            due = self.dispatch.next_adopted()
        if due is None and adopt and self.backlog.can_adopt:
            return 0.0
        if due is None and own is None:
            if self.dispatch.conclude():
                return 0.0
            due = self.dispatch.probe()
        if due is None:
            if adopt and self.backlog.has_newcomers:
                return max(self.next_adoption - now, 0.0)
            return linger or None
        if now < self.dispatch.next_try:
            return self.dispatch.next_try - now
        if self.dispatch.offer(due) and due.cursor.own:
            self._waiting_since = None  # else they have waited for company already
        return max(self.dispatch.next_try - self._clock(), 0.0)

    def _take_over(self, adopted: Iterable[Cursor]) -> None:
        for cursor in adopted:
            self.dispatch.adopt(cursor)

    def _keep_within_bound(self) -> None:
        left = self._bound.keep(self.dispatch.suspects)
        if left is not None:
            self.dispatch.gave_up(left)

    def _linger(self, own: Batch, now: float, *, urgent: bool) -> float:
        at_once = own.is_full or urgent or self.dispatch.is_searching
        if at_once or self._waiting_since is None:
            return 0.0
        return max(self._waiting_since + LINGER - now, 0.0)
