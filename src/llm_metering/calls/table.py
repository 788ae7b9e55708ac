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

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final, Literal, Protocol

from .events import Provenance, Status, UsageEvent, encode, new_event_id
from .subjects import Attribution, Rank
from .token_usage import TokenUsage

__all__ = ["CallStart", "CallState", "CallTable", "Outcome", "Recorder", "Report"]

Outcome = Literal["completed", "failed", "refused", "aborted"]
"""How a call ended: with an answer; with an error after which tokens may have been spent; by the
provider's refusal, which costs nothing; by its consumer, who left or was cancelled."""

REMEMBERED: Final = 20_000
"""How many settled calls are remembered, to tell a late signal from an unknown call."""
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""A provider's clock that is further off than this does not date a call."""


class Recorder(Protocol):
    """Where the table writes; the journal."""

    def record(self, event_id: str, payload: bytes) -> None: ...
    def note_open(self, event_id: str, payload: bytes) -> None: ...
    def note_closed(self, event_id: str) -> None: ...
    def count(self, name: str, key: str = "", amount: int = 1) -> None: ...


class CallState(Enum):
    """Where a call is in its life."""

    OPEN = "open"
    COUNTING = "counting"
    ABANDONED = "abandoned"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStart:
    """What is known when a call starts, and frozen then.

    Attributes:
        attribution: Who pays.
        framework: `langchain`, `llamaindex`.
        operation: `chat`, `text_completion`, `embeddings`.
        provider: Who is asked.
        request_model: The model that is asked for.
        run_id: The framework's name for the call.
        request: The request as an object, to recognise a second delivery of the same start by
            its identity. It is never read.
        teller: Which handler tells of it. Several may tell of one call, one of them several
            times, and one that did not tell of the start may tell of the end.
    """

    attribution: Attribution
    framework: str
    operation: str
    provider: str | None = None
    request_model: str | None = None
    run_id: str | None = None
    request: object = field(default=None, repr=False)
    teller: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a front end knows when a call ends.

    Attributes:
        usage: What the provider reported.
        model: The model that answered.
        response_id: The provider's name for the answer.
        created: The provider's time of the answer.
        cached: The framework's cache answered; no provider was asked.
        flags: What was odd.
        reason: For a refusal, a short name such as the status code.
    """

    usage: TokenUsage | None = None
    model: str | None = None
    response_id: str | None = None
    created: datetime | None = None
    cached: bool = False
    flags: tuple[str, ...] = ()
    reason: str = ""


class _Call:
    __slots__ = (
        "attribution",
        "event_id",
        "first_piece",
        "flags",
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
        self.pieces = 0
        self.told = {start.teller: 1}
        self.flags: tuple[str, ...] = ()
        self.state = CallState.OPEN

    @property
    def received(self) -> int:
        """Pieces with output that arrived; one told twice of the start is told twice of each."""
        return -(-self.pieces // self.told[self.start.teller])


_in_flight: dict[str, _Call] = {}
"""The calls in flight of all tables of this process, by key.

A call that two meters are told of, one of `install()` and one that its own handler was given, is
one call: each meter records it, both under one id and for one subject, so that it counts once
wherever their books meet."""


class CallTable:
    """The calls in flight, each settled exactly once.

    Args:
        recorder: Where events and notes go.
        source: The CloudEvents source of the events.
        now: The clock that dates them, in aware UTC.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        source: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._recorder = recorder
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

    def piece(self, key: str, *, empty: bool, teller: str = "") -> None:
        """A streamed piece arrived.

        Args:
            key: The call.
            empty: It holds no output, as the piece that carries the usage does.
            teller: Who says so; only whoever was first to tell of the start is listened to.
        """
        call = self._open.get(key)
        if call is None or teller != call.start.teller:
            return
        if call.first_piece is None:
            call.first_piece = time.perf_counter_ns()
        if not empty:
            call.pieces += 1

    def end(self, key: str, outcome: Outcome, report: Report, *, teller: str = "") -> None:
        """A call ended; the first to say so settles it."""
        call = self._take(key, teller)
        if call is None:
            self._ignore(key, outcome, teller)
            return
        if outcome == "refused" and report.usage is None and not call.pieces:
            call.state = CallState.SETTLED
            self._recorder.note_closed(call.event_id)
            self._recorder.count("refused_calls", report.reason)
            return
        status: Status = "failed" if outcome == "refused" else outcome
        self._settle(call, "cached" if report.cached else status, report)

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
            self._settle(call, "aborted", Report(flags=(flag,)))

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
        usage, provenance, count_method = self._usage_of(call, status, report)
        flags = (*call.attribution.flags, *call.flags, *report.flags)
        if usage is not None and not usage.is_consistent:
            flags = (*flags, "usage_inconsistent")
        ended = time.perf_counter_ns()
        event = replace(
            self._interrupted(call),
            time=self._date(report.created),
            usage=usage,
            provenance=provenance,
            status=status,
            count_method=count_method,
            model=report.model,
            response_id=report.response_id,
            duration_ms=(ended - call.started) // 1_000_000,
            time_to_first_token_ms=(
                None if call.first_piece is None else (call.first_piece - call.started) // 1_000_000
            ),
            flags=flags,
        )
        self._recorder.record(call.event_id, encode(event))
        call.state = CallState.SETTLED

    def _usage_of(
        self, call: _Call, status: Status, report: Report
    ) -> tuple[TokenUsage | None, Provenance, str | None]:
        if status == "cached":
            return TokenUsage(input_tokens=0, output_tokens=0), "reported", None
        if report.usage is not None and report.usage != TokenUsage():
            whole = report.usage.total_tokens is not None
            return report.usage, "reported" if whole else "partial", None
        if call.pieces:
            # A lower bound: providers put at least one token into each piece.
            call.state = CallState.COUNTING
            return TokenUsage(output_tokens=call.received), "estimated", "stream_chunks"
        return None, "missing", None

    def _interrupted(self, call: _Call) -> UsageEvent:
        start, attribution = call.start, call.attribution
        return UsageEvent(
            id=call.event_id,
            source=self._source,
            subject=attribution.subject,
            time=self._now(),
            provenance="missing",
            status="interrupted",
            operation=start.operation,
            provider=start.provider,
            request_model=start.request_model,
            framework=start.framework,
            run_id=start.run_id,
            flags=attribution.flags,
            dimensions=attribution.dimensions,
        )

    def _date(self, created: datetime | None) -> datetime:
        now = self._now()
        # A provider's odd clock must not move a call into another month's bill.
        if created is not None and abs(created - now) <= CLOCK_TOLERANCE:
            return created
        return now
