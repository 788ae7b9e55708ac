"""What may be said of an event, by the server's lists and our own books: argued in decision 23."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from ..sinks._payload import UnusableEventError
from ..sinks.openmeter import OpenMeterSink
from .attempts import Attempt, Attempts
from .books import Account, Books
from .comparison import Comparison
from .expected import WireEvent, wire_events
from .findings import Finding, Ledgered
from .listing import EventLists
from .pages import Listed
from .resending import Resent

__all__ = ["Verdicts"]

_ELSEWHERE: Final = (
    "this home's journal does not know it; the home that recorded it says whether it was delivered"
)
_CLOCKS: Final = 2.0
"""Seconds by which two clocks cannot be told apart that say whole ones."""


class Verdicts:
    """Decides on events, most of all on those that are not listed.

    Args:
        lists: The server's.
        sink: Which delivers to it.
        books: Our own.
        comparison: Makes the findings.
        attempts: What was sent again.
        lag: How many seconds the server may be behind; 0 says that it never is.
        is_shared: Whether the ledger has events that other homes have recorded.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        lists: EventLists,
        sink: OpenMeterSink,
        books: Books,
        comparison: Comparison,
        attempts: Attempts,
        *,
        lag: float,
        is_shared: bool,
        clock: Callable[[], float],
    ) -> None:
        self._lists = lists
        self._sink = sink
        self._books = books
        self._comparison = comparison
        self._attempts = attempts
        self._lag = lag
        self._is_shared = is_shared
        self._clock = clock
        # Up to which moment of the server's clock it is known to list what came later, and from
        # which on that it does not.
        self._newer_until = 0.0
        self._nothing_after = float("inf")

    def listed(self, event: WireEvent, rows: Sequence[Listed]) -> Finding | None:
        """What is to be said of an event that is listed; `None` if all is well.

        Args:
            event: The event.
            rows: What is listed under its id, of our source.
        """
        finding = self._comparison.judge(event, rows)
        if finding is not None:
            return finding
        told = self._comparison.describe(event)
        letter = self._books.letters.get(event.record)
        if letter is not None:
            return Finding(
                kind="dead", event=told, listed=len(rows), reason=letter.reason, is_harmless=True
            )
        if event.record in self._books.suspects:
            return Finding(kind="suspect", event=told, listed=len(rows))
        return None

    def collided(self, events: Sequence[WireEvent], rows: Sequence[Listed]) -> Finding:
        """What is to be said of events that share an id.

        Args:
            events: All of them.
            rows: What is listed under it, of our source.
        """
        off = self._comparison.off(events, rows)
        return Finding(
            kind="collided",
            event=self._comparison.describe(events[0]),
            listed=len(rows),
            off=off,
            reason=f"{len(events)} recorded events have this id",
            is_harmless=len(rows) == len(events) and not off,
        )

    def unusable(self, record: str, reason: str) -> Finding:
        """What is to be said of a recorded event that the sink sends nothing for."""
        letter = self._books.letters.get(record)
        return Finding(
            kind="dead",
            event=Ledgered(record=record, id=record, type="", subject="", time=0, tokens=None),
            reason=letter.reason if letter else reason,
        )

    def may_be_missing(self, event: WireEvent, account: Account) -> bool:
        """Whether our books do not say why an event is not listed."""
        known = event.record in self._books.letters or account.is_owed or account.was_owed is False
        return not known

    def unlisted(self, event: WireEvent, account: Account) -> Finding:
        """What is to be said of an event that no look has found.

        Args:
            event: The event.
            account: What our books say of it.
        """
        found = self._comparison.found
        letter = self._books.letters.get(event.record)
        if letter is not None:
            return found("dead", event, (), reason=letter.reason)
        if account.is_owed:
            is_suspect = event.record in self._books.suspects
            return found("suspect" if is_suspect else "waiting", event, ())
        if account.was_owed is False:
            return found("not_owed", event, (), reason="recorded when this sink was not there")
        if account.was_owed is None and self._is_shared:
            # It may have come from a broker, and its own host may deliver it at any moment.
            return found("unsettled", event, (), reason=_ELSEWHERE)
        attempt = self._attempts.of(event.id)
        open_because = self._why_open(event, account, attempt)
        if open_because is not None:
            return found("unsettled", event, (), reason=open_because)
        if attempt.taken:
            return self._claimed(event, attempt)
        return found("missing", event, ())

    def resent(self, event: WireEvent, resent: Resent) -> Finding:
        """What is to be said of an event that was sent again and is not listed after that.

        Args:
            event: The event.
            resent: What became of all that were sent.
        """
        if event.id in resent.refused:
            return self._comparison.found("missing", event, (), reason=resent.refused[event.id])
        if event.id not in resent.taken:
            reason = f"not sent again: {resent.replayed.reason or 'it was not its turn'}"
            return self._comparison.found("missing", event, (), reason=reason)
        attempt = self._attempts.of(event.id)
        # That others of them arrived says nothing: they may lie in another partition.
        if self._lag and self._clock() < attempt.last + self._lag:
            reason = "sent again and taken; the server may not have got to it yet"
            return self._comparison.found("unsettled", event, (), reason=reason)
        return self._claimed(event, attempt)

    def sent_by_others(self, event: WireEvent) -> Finding:
        """What is to be said of an event that somebody else sent again while this run looked."""
        reason = "another llm-metering sent it again meanwhile"
        return self._comparison.found("unsettled", event, (), reason=reason)

    def _claimed(self, event: WireEvent, attempt: Attempt) -> Finding:
        finding = self._comparison.found("claimed", event, ())
        last = datetime.fromtimestamp(attempt.last, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Finding(
            kind="claimed",
            event=finding.event,
            off=finding.off,
            reason=f"sent again {attempt.times} times, last at {last}; taken, and not listed",
            attempts=attempt.times,
        )

    def _why_open(self, event: WireEvent, account: Account, attempt: Attempt) -> str | None:
        """Why it cannot be said that an event is missing; `None` if it can."""
        if not self._lag:
            return None
        if account.given_by is None and not attempt.times:
            return "this home's books do not say whether the server was ever given it"
        again = max(attempt.last, self._books.replayed)
        given_by = max(account.given_by or 0.0, again)
        now = self._clock()
        if now - given_by < self._lag and account.successors:
            passed = self._passed(account)
            if passed is not None and now - max(passed, again) >= self._lag:
                return None  # and what it was given later is listed
        if now - given_by < self._lag:
            return f"the server may have been given it less than {self._lag:g} s ago"
        if not self._lists_newer(given_by + self._lists.skew + _CLOCKS):
            return "the server lists nothing that it took in later: it may stand still"
        return None

    def _passed(self, account: Account) -> float | None:
        """When, by our clock, the server took in the first listed one of an event's successors."""
        events = []
        for successor in account.successors:
            try:
                events += wire_events(self._sink, successor.id, successor.payload)[:1]
            except UnusableEventError:
                continue
        times = [
            row.ingested_at
            for portion, found in self._lists.look([events])
            for event in portion
            for row in self._comparison.ours(found.get(event.id, ()))
        ]
        return min(times) - self._lists.skew if times else None

    def _lists_newer(self, moment: float) -> bool:
        """Whether the server lists anything that it took in after a moment of its clock."""
        if moment < self._newer_until:
            return True
        if moment >= self._nothing_after:
            return False
        if self._lists.has_newer(moment):
            self._newer_until = max(self._newer_until, moment)
            return True
        self._nothing_after = min(self._nothing_after, moment)
        return False
