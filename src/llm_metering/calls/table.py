"""`CallTable`: the life of one LLM call, from its start to the one event that bills it.

A front end tells the table what it saw; the table knows no framework. ::

    open ──────────────► settled      an end, or an error that may have cost something
      ├────► counting ──► settled     no usage was reported: we count
      └────► abandoned ─► settled     nobody said how it ended, and nobody will

What the table relies on is that `dict.pop` gives a key to one caller only: however many threads,
handlers and finalisers report the end of a call, one of them settles it. So there is no lock
that garbage collection, which may run such a finaliser inside any allocation, could meet held.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ..events import Status, UsageEvent, encode, new_event_id
from ..exchange import Counted, Exchange, Output
from ..subjects import Attribution, Rank
from ..token_usage import TokenUsage
from .settling import counts_of, needs_counting
from .values import (
    CallStart,
    CallState,
    Outcome,
    Recorder,
    Report,
    Tokenizer,
    date_of,
    interrupted_event,
    utc_now,
)

__all__ = ["CallTable"]

REMEMBERED: Final = 20_000
"""How many settled calls are remembered, to tell a late signal from an unknown call."""


class _Call:
    __slots__ = (
        "attribution",
        "event_id",
        "first_piece",
        "flags",
        "other_pieces",
        "pieces",
        "start",
        "started",
        "state",
        "told",
    )

    def __init__(self, start: CallStart) -> None:
        self.event_id = new_event_id()
        self.start = start
        self.attribution = start.attribution
        self.started = time.perf_counter_ns()
        self.first_piece: int | None = None
        self.pieces: list[str] = []
        self.other_pieces: list[str] = []
        self.told = {start.teller: 1}
        self.flags: tuple[str, ...] = ()
        self.state = CallState.OPEN

    def received(self) -> Output:
        """The text that arrived; one told twice of the start is told twice of each piece."""
        step = self.told[self.start.teller]
        ways = ("".join(pieces[::step]) for pieces in (self.pieces, self.other_pieces))
        # What was told in two ways is the same text; the way that tells more tells all of it.
        return Output(texts=[max(ways, key=len)])


_in_flight: dict[str, _Call] = {}
"""The calls in flight of all tables of this process, by key.

A call that two meters are told of, one of `install()` and one that its own handler was given, is
one call: each meter records it, both under one id and for one subject, so that it counts once
wherever their books meet."""


class CallTable:
    """The calls in flight, each settled exactly once.

    Args:
        recorder: Where events and notes go.
        tokenizer: What counts where nobody reported.
        source: The CloudEvents source of the events.
        now: The clock that dates them, in aware UTC.
    """

    def __init__(
        self,
        recorder: Recorder,
        tokenizer: Tokenizer,
        *,
        source: str,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._recorder = recorder
        self._tokenizer = tokenizer
        self._source = source
        self._now = now
        self._open: dict[str, _Call] = {}
        # By key, how many ends each handler is still to be told of.
        self._settled: dict[str, dict[str, int]] = {}
        self._settled_order: deque[str] = deque()

    def __repr__(self) -> str:
        return f"<CallTable open={len(self._open)}>"

    def __len__(self) -> int:
        """Calls in flight."""
        return len(self._open)

    def knows(self, key: str) -> bool:
        """Whether a call of that key is in flight or was settled a short while ago."""
        return key in self._open or key in self._settled

    def start(self, key: str, start: CallStart) -> None:
        """A call starts.

        The same start may be delivered several times, by a global handler and by one of the
        call's own: that is one call, billed to the subject of the highest rank. Two handlers
        that name different subjects of their own contradict each other; the first is billed.
        """
        call = self._open.get(key)
        if call is not None and call.start.request is start.request:
            call.told[start.teller] = call.told.get(start.teller, 0) + 1
            self._merge(call, start.attribution)
            return
        if call is not None:
            # The user fixed the run id of two calls that are in flight together. Their ends
            # cannot be told apart; the first is closed with what is known of it.
            self._abandon(key, "run_id_reused")
        call = _in_flight.get(key)
        if call is not None and start.request is not None and call.start.request is start.request:
            call.told[start.teller] = call.told.get(start.teller, 0) + 1
            self._open[key] = call
            self._settled.pop(key, None)
            self._merge(call, start.attribution)
        else:
            call = self._open[key] = _in_flight[key] = _Call(start)
            self._settled.pop(key, None)
        self._recorder.note_open(call.event_id, encode(self._interrupted(call)))

    def kept(self, key: str) -> Any:
        """What the front end keeps of a call in flight; `None` if none of that key is."""
        call = self._open.get(key)
        return None if call is None else call.start.kept

    def payer(self, key: str) -> str | None:
        """Who pays for a call in flight; `None` if none of that key is."""
        call = self._open.get(key)
        return None if call is None else call.attribution.subject

    def is_streamed(self, key: str) -> bool:
        """Whether a piece of a call in flight has arrived."""
        call = self._open.get(key)
        return call is not None and call.first_piece is not None

    def piece(
        self, key: str, text: str | None, *, teller: str = "", is_retold: bool = False
    ) -> None:
        """A streamed piece arrived.

        Args:
            key: The call.
            text: What it holds; empty for output that is no text, `None` where there is no output
                in it, as in the piece that carries the usage.
            teller: Who says so; only whoever was first to tell of the start is listened to.
            is_retold: It is told in a second way, in which all that is told in the first may be
                told again.
        """
        call = self._open.get(key)
        if call is None or teller != call.start.teller:
            return
        if call.first_piece is None:
            call.first_piece = time.perf_counter_ns()
        if text is not None:
            (call.other_pieces if is_retold else call.pieces).append(text)

    def end(self, key: str, outcome: Outcome, report: Report, *, teller: str = "") -> None:
        """A call ended; the first to say so settles it."""
        call = self._take(key, teller)
        if call is None:
            self._ignore(key, outcome, teller)
            return
        arrived = call.pieces or call.other_pieces
        if outcome == "refused" and report.usage is None and not arrived:
            call.state = CallState.SETTLED
            self._recorder.note_closed(call.event_id)
            self._recorder.count("refused_calls", report.reason)
            return
        status: Status = "failed" if outcome == "refused" else outcome
        self._settle(call, "cached" if report.cached else status, report)

    def drop(self, key: str, reason: str, *, teller: str = "") -> None:
        """A call that was begun is none, and makes no event.

        Args:
            key: The call.
            reason: Why, for `status`: it is a part of another one's request, or was never sent.
            teller: Who says so.
        """
        call = self._take(key, teller)
        if call is not None:
            call.state = CallState.SETTLED
            self._recorder.note_closed(call.event_id)
            self._recorder.count("ignored_signals", reason)

    def close(self) -> None:
        """Settle what is still open, as the process ends."""
        for key in list(self._open):
            self._abandon(key, "open_at_exit")

    def after_fork(self) -> None:
        """In a forked child: the calls in flight are the parent's to settle."""
        for key, call in self._open.items():
            self._remember(key, call.told)
            _in_flight.pop(key, None)
        self._open.clear()

    def _merge(self, call: _Call, attribution: Attribution) -> None:
        current = call.attribution
        if (
            attribution.rank == current.rank == Rank.HANDLER
            and attribution.subject != current.subject
        ):
            call.flags = ("subject_conflict",)
            return
        payer, other = (
            (attribution, current) if attribution.rank < current.rank else (current, attribution)
        )
        # What the other one knows to group by holds too; where they differ, the payer's does.
        merged = replace(payer, dimensions={**other.dimensions, **payer.dimensions})
        if merged != current:
            call.attribution = merged
            self._recorder.note_open(call.event_id, encode(self._interrupted(call)))

    def _abandon(self, key: str, flag: str) -> None:
        call = self._take(key)
        if call is not None:
            call.state = CallState.ABANDONED
            report = Report()
            if call.start.so_far is not None:
                try:
                    report = call.start.so_far()
                except Exception:
                    self._recorder.count("failures", "so_far")
            self._settle(call, "aborted", replace(report, flags=(*report.flags, flag)))

    def _take(self, key: str, teller: str | None = None) -> _Call | None:
        """The call in flight, given to one caller only."""
        call = self._open.get(key)
        if call is None:
            return None
        teller = call.start.teller if teller is None else teller
        # Before it leaves: at no moment may it look like a call that nobody knows.
        expected = {each: n - (each == teller) for each, n in list(call.told.items())}
        self._remember(key, expected)
        if _in_flight.get(key) is call:
            _in_flight.pop(key, None)
        return self._open.pop(key, None)

    def _ignore(self, key: str, outcome: Outcome, teller: str) -> None:
        told = self._settled.get(key)
        if told is None or told.get(teller) == 0:
            self._recorder.count("ignored_signals", outcome)
        elif teller in told:
            # Another handler that was told of the start is told of the end as well.
            told[teller] -= 1

    def _remember(self, key: str, expected: dict[str, int]) -> None:
        self._settled[key] = expected
        self._settled_order.append(key)
        if len(self._settled_order) > REMEMBERED:
            self._settled.pop(self._settled_order.popleft(), None)

    def _settle(self, call: _Call, status: Status, report: Report) -> None:
        event = partial(self._event, call, status, report, self._now(), time.perf_counter_ns())
        exchange = self._exchange_of(call, status, report)
        if exchange is None:
            self._recorder.record(call.event_id, encode(event(None)))
            call.state = CallState.SETTLED
            return
        call.state = CallState.COUNTING
        # The note is the event to record if this process dies before we have counted.
        guessed = self._tokenizer.guess(exchange)
        self._recorder.note_open(call.event_id, encode(event(guessed)))
        self._tokenizer.submit(exchange, partial(self._settle_counted, call, event))

    def _settle_counted(
        self, call: _Call, event: Callable[[Counted], UsageEvent], counted: Counted
    ) -> None:
        self._recorder.record(call.event_id, encode(event(counted)))
        call.state = CallState.SETTLED

    def _event(
        self,
        call: _Call,
        status: Status,
        report: Report,
        now: datetime,
        ended: int,
        counted: Counted | None,
    ) -> UsageEvent:
        if counted is not None and status != "completed" and not counted.output_tokens:
            # Nothing had arrived; what was generated by then is not known to be nothing.
            counted = dataclasses.replace(counted, output_tokens=None)
        usage, provenance, count_method = counts_of(status, report, counted)
        flags = (*call.attribution.flags, *call.flags, *report.flags)
        if usage is not None and not usage.is_consistent:
            flags = (*flags, "usage_inconsistent")
        first = call.first_piece
        return replace(
            interrupted_event(call.event_id, self._source, call.start, call.attribution, now),
            time=date_of(report.created, now),
            status=status,
            provenance=provenance,
            usage=usage,
            measures=report.measures,
            count_method=count_method,
            provider=call.start.provider or report.provider,
            operation=call.start.operation or report.operation,
            model=report.model,
            response_id=report.response_id,
            batch_size=report.batch_size,
            duration_ms=(ended - call.started) // 1_000_000,
            time_to_first_token_ms=None if first is None else (first - call.started) // 1_000_000,
            flags=flags,
        )

    def _exchange_of(self, call: _Call, status: Status, report: Report) -> Exchange | None:
        """What there is to count; `None` if all is known, or nothing came back at all."""
        if not needs_counting(status, report):
            return None
        try:
            output = report.output() or call.received()
            reported = report.usage is not None and report.usage != TokenUsage()
            lives = reported or output or call.first_piece is not None
            if status != "completed" and not lives:
                # It may never have reached the provider: nobody can say what it cost.
                return None
            request = call.start.asked()
        except Exception:
            # What the user handed over can be anything; the event is worth more than its estimate.
            self._recorder.count("failures", "counting")
            return None
        if request is None and not output:
            return None
        return Exchange(
            model=report.model or call.start.request_model,
            provider=call.start.provider or report.provider,
            request=request,
            output=output,
        )

    def _interrupted(self, call: _Call) -> UsageEvent:
        return interrupted_event(
            call.event_id, self._source, call.start, call.attribution, self._now()
        )
