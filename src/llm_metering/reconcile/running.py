"""A reconciliation: look, look once more, decide; send again what is missing; look after that.

What may be called missing is argued in `docs/decisions/0023-what-is-missing.md`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from ..ledger import Ledger
from ..sinks.asking import Asker
from ..sinks.openmeter import OpenMeterSink
from ..transport.retention import Retention
from ..transport.spool import Spool, debt_of
from .attempts import Attempts, replayed_at
from .books import Books, dropped_of
from .comparison import Comparison, SumMeter
from .deciding import Verdicts
from .expected import TOKENS, WireEvent
from .findings import Finding
from .listing import LIMIT, EventLists, pieces
from .pages import Listed
from .resending import Resent, send_again
from .span import Span
from .totals import MeterTotals, our_meters, read_totals

__all__ = ["LAG", "SETTLE", "Reconciler"]

SETTLE: Final = 30.0
"""Seconds between two looks; OpenMeter's sink worker writes every 2 of them, or 500 events."""
LAG: Final = 3600.0
"""Seconds that a server may be behind."""

Progress = Callable[[str, int, int], object]


class Reconciler:
    """Compares what was recorded with what one server lists; used once, as a context manager.

    Args:
        home: The home.
        sink: The sink that delivers to the server.
        ledger: What was recorded.
        source: The CloudEvents source of the events.
        start: First moment that counts; a whole minute.
        end: First moment that no longer counts; a whole minute.
        retention: What becomes of segments that every sink has had.
        settle: Seconds between two looks.
        lag: How many seconds the server may be behind. What it was given longer ago, and does not
            list though it lists what came later, is missing. 0 says that it is never behind.
        force: Whether to send again even what was sent again in vain.
        should_stop: Asked again and again; `True` ends it.
        on_progress: Called with what is done, how many events are done, and how many there are.
        clock: Seconds since 1970.

    Attributes:
        findings: What there is to be said, by the event's id on the wire.
        well: Events listed once, as they were sent.
        comparison: What else was noticed of those.
        books: Our own, as they were before the first look.
        meters: The totals of the server's meters; none until `add_totals`.
        resent: What became of those that were sent again.

    Raises:
        LedgerError: If the ledger cannot be read.
        ReconcileError: If the server cannot be asked.
        HomeError: If there is no room for temporary files.
    """

    def __init__(
        self,
        home: Path,
        *,
        sink: OpenMeterSink,
        ledger: Ledger,
        source: str,
        start: datetime,
        end: datetime,
        retention: Retention,
        settle: float = SETTLE,
        lag: float = LAG,
        force: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Progress = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._source = source
        self.start, self.end = start, end
        self._settle, self._lag, self._force = settle, lag, force
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._clock = clock
        self._home = home
        self._debt = debt = debt_of(sink)
        self.findings: dict[str, Finding] = {}
        self.well = 0
        self.meters: list[MeterTotals] = []
        self.resent: Resent | None = None
        self._unlisted: dict[str, WireEvent] = {}
        is_shared = ledger.is_fed_by_topics()
        with contextlib.ExitStack() as opening:
            asker = opening.enter_context(Asker(limit=LIMIT, token=sink.token))
            self._lists = EventLists(sink, asker, should_stop=should_stop)
            tokens = SumMeter(slug="", type=sink.event_type, key=TOKENS[sink.shape])
            self._server_meters, self.meters_note = our_meters(self._lists, sink)
            summed = [meter for meter, _ in self._server_meters]
            self.span = Span(
                ledger, sink, source=source, start=start, end=end, meters=(tokens, *summed)
            )
            opening.callback(self.span.close)
            # The books after the ledger and before the server is asked: what they say is owed may
            # be delivered from now on, and what was recorded since is not in the span.
            self.books = Books(
                Spool(home, retention=retention),
                debt,
                source=source,
                dropped=dropped_of(home, debt),
                has_others=is_shared,
            )
            self.comparison = Comparison(
                source,
                tokens,
                meters=summed,
                start=int(start.timestamp()),
                end=int(end.timestamp()),
            )
            self._attempts = Attempts(home, debt)
            self._verdicts = Verdicts(
                self._lists,
                sink,
                self.books,
                self.comparison,
                self._attempts,
                lag=lag,
                is_shared=is_shared,
                clock=clock,
            )
            self._opened = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __repr__(self) -> str:
        return f"<Reconciler {self._sink.name} findings={len(self.findings)}>"

    @property
    def requests(self) -> int:
        """How many requests were made."""
        return self._lists.requests

    def compare(self) -> None:
        """Look for every event, and for those that are not listed once more."""
        total = self.span.total

        def report(done: int) -> None:
            self._on_progress("look", done, total)

        for portion, found in self._lists.look(self.span.portions(report)):
            for event in portion:
                rows = self.comparison.ours(found.get(event.id, ()))
                if rows:
                    self._note_listed(event, rows)
                else:
                    self._unlisted[event.id] = event
        self._look_at_collisions()
        for record, reason in self.span.unusable.items():
            self.findings[record] = self._verdicts.unusable(record, reason)
        records = {event.record for event in self._unlisted.values()}
        accounts = self.books.accounts(records, successors=self._lag > 0)
        if any(
            self._verdicts.may_be_missing(event, accounts[event.record])
            for event in self._unlisted.values()
        ):
            self._on_progress("settle", 0, len(self._unlisted))
            self._lists.wait(self._settle)
        self._look_again(self._note_listed)
        for event in self._unlisted.values():
            account = accounts[event.record]
            self.findings[event.id] = self._verdicts.unlisted(event, account)

    def to_resend(self) -> list[WireEvent]:
        """What may be sent again: missing, and not sent again before, or so long ago that it helps."""
        chosen = []
        now = self._clock()
        window = self._sink.limits.dedupe_window
        for wire_id, finding in self.findings.items():
            if finding.kind in ("missing", "claimed") and wire_id in self._unlisted:
                attempt = self._attempts.of(wire_id)
                if self._force or attempt.may_be_repeated(window=window, now=now):
                    chosen.append(self._unlisted[wire_id])
        return chosen

    def resend(self, events: Sequence[WireEvent]) -> None:
        """Send events again, wait, and see which of them arrived.

        Those are left out that are listed by now, or that somebody else has sent again since.

        Args:
            events: Those of `to_resend`.

        Raises:
            ReconcileError: If somebody else is sending again, or the server cannot be asked.
            OSError: If it cannot be written down.
        """
        if not events:
            return
        before = {event.id: self._attempts.of(event.id) for event in events}
        with self._attempts.alone():
            # A person may have been asked for hours, and others may have sent it meanwhile.
            replayed = replayed_at(self._home, self._debt) != self.books.replayed
            self._unlisted = {
                event.id: event
                for event in events
                if not replayed and self._attempts.of(event.id) == before[event.id]
            }
            for event in events:
                if event.id not in self._unlisted:
                    self.findings[event.id] = self._verdicts.sent_by_others(event)
            self._look_again(self._note_listed)
            events = list(self._unlisted.values())
            if not events:
                return
            ids = [event.id for event in events]
            self._attempts.begin(ids, now=self._clock())
            self.resent = send_again(
                events,
                self._sink,
                should_stop=self._should_stop,
                on_progress=lambda done: self._on_progress("resend", done, len(events)),
            )
            self._attempts.end(ids, self.resent.taken, (), now=self._clock())
            self._on_progress("settle", 0, len(events))
            self._lists.wait(self._settle)
            self._look_again(self._note_resent)
            arrived = set(ids) - self._unlisted.keys()
            self._attempts.end((), (), arrived, now=self._clock())
        for event in self._unlisted.values():
            self.findings[event.id] = self._verdicts.resent(event, self.resent)

    def add_totals(self) -> None:
        """Ask the server's meters for the span, and explain each difference."""
        self.meters = read_totals(
            self._lists,
            self._sink,
            self._server_meters,
            self.span,
            self.comparison,
            self.findings.values(),
            start=self.start,
            end=self.end,
        )

    def _look_again(self, note: Callable[[WireEvent, list[Listed]], None]) -> None:
        """Look for what is not listed, whatever time and type it may have."""
        done, total = 0, len(self._unlisted)
        for portion, found in self._lists.look(pieces(list(self._unlisted.values())), broad=True):
            for event in portion:
                rows = self.comparison.ours(found.get(event.id, ()))
                if rows:
                    del self._unlisted[event.id]
                    note(event, rows)
            done += len(portion)
            self._on_progress("look again", done, total)

    def _look_at_collisions(self) -> None:
        colliding = dict(self.span.colliding())
        firsts = [events[0] for events in colliding.values() if events]
        for portion, found in self._lists.look(pieces(firsts), broad=True):
            for first in portion:
                events = colliding[first.id]
                rows = self.comparison.ours(found.get(first.id, ()))
                self.findings[first.id] = self._verdicts.collided(events, rows)

    def _note_listed(self, event: WireEvent, rows: list[Listed]) -> None:
        finding = self._verdicts.listed(event, rows)
        if finding is None:
            self.findings.pop(event.id, None)
            self.well += 1
        else:
            self.findings[event.id] = finding

    def _note_resent(self, event: WireEvent, rows: list[Listed]) -> None:
        times = self._attempts.of(event.id).times
        self.findings[event.id] = self.comparison.judge(event, rows) or Finding(
            kind="recovered",
            event=self.comparison.describe(event),
            listed=len(rows),
            attempts=times,
        )
