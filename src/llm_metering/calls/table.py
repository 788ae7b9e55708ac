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
import weakref
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from ..events import Status
from ..subjects import Rank
from .call import Call, Failure, Key, in_flight
from .closing import Reason, Waits, verdict
from .memory import SettledCalls
from .owners import current_task, forget_idle, owned_by_task, owners_of
from .reused import ReusedKeys
from .values import CallStart, CallState, Outcome, Recorder, Report, Tokenizer, utc_now
from .watched import tell_watchers
from .writing import EventWriter

__all__ = ["CallTable"]

_WAITS: Final = Waits()


_tables: weakref.WeakSet[CallTable] = weakref.WeakSet()
"""All tables of this process, each of which may have been told of a call that another refuses."""


class CallTable:
    """The calls in flight, each settled exactly once.

    Args:
        recorder: Where events and notes go.
        tokenizer: What counts where nobody reported.
        source: The CloudEvents source of the events.
        now: The clock that dates them, in aware UTC.
        clock: A monotonic clock, in seconds.
        waits: How long calls are waited for that nobody ends.
        watch: Called when `sweep` has something to look after; may be called once too often.

    Attributes:
        beside: What front ends keep for as long as the table; it never looks into it.
    """

    def __init__(
        self,
        recorder: Recorder,
        tokenizer: Tokenizer,
        *,
        source: str,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        waits: Waits = _WAITS,
        watch: Callable[[], object] = lambda: None,
    ) -> None:
        self._recorder = recorder
        self._writer = EventWriter(recorder, tokenizer, source=source, now=now)
        self._now = now
        self._clock = clock
        self._waits = waits
        self._watch = watch
        self._open: dict[Key, Call] = {}
        self._reused = ReusedKeys()
        self._settled = SettledCalls(recorder)
        self.beside: dict[str, Any] = {}
        _tables.add(self)

    def __repr__(self) -> str:
        return f"<CallTable open={len(self._open)}>"

    def __len__(self) -> int:
        """Calls in flight."""
        return len(self._open)

    def knows(self, key: Key) -> bool:
        """Whether a call of that key is in flight or was settled a short while ago."""
        return key in self._open or key in self._settled

    def start(self, key: Key, start: CallStart) -> Call:
        """A call starts; what is known of it now, by all who told of it.

        The same start may be delivered several times, by a global handler and by one of the
        call's own: that is one call, billed to the subject of the highest rank. Two handlers
        that name different subjects of their own contradict each other; the first is billed.

        A user may fix the run id of two calls. One after the other they are two calls; under way
        at the same time as well, both flagged, since their ends look alike.
        """
        name = key
        call = self._open.get(key)
        if (call is not None and call.start.request is not start.request) or key in self._reused:
            key, call = self._reused.beside(key, start, self._open)
        if call is not None:
            self._tell_again(call, start)
            return call
        call = in_flight.get((name, id(start.request))) if start.request is not None else None
        if call is None:
            call = Call.begin(name, start, self._clock())
            in_flight[call.identity] = call
            call.owners = owners_of(start)
        else:
            # Another meter has it as well.
            self._tell_again(call, start)
        while self._open.setdefault(key, call) is not call:
            # Another thread began one of that run id at this very moment.
            key, _ = self._reused.beside(name, start, self._open)
        if key != name:
            self._reused.join(name, key)
        self._settled.forget(key)
        for owned in call.owners:
            owned[self, key] = call
        if self._reused:
            self._reused.flag(name, self._open)
        self._writer.note_open(call)
        if call.attribution.watchers:
            tell_watchers(call, "began", call.event_id, self._recorder)
        self._watch()
        return call

    def is_paid(self, key: Key, request: object) -> bool:
        """Whether somebody pays for the call, by what another handler told of its start."""
        call = in_flight.get((key, id(request)))
        return call is not None and call.attribution.rank is not Rank.NOBODY

    def refuse(
        self, key: Key, request: object, reason: str | None, *, batch: Hashable | None = None
    ) -> None:
        """A call is not made: it leaves a count, and nothing where others were told of its start.

        Nothing is counted without a reason: nobody refused it, it was only not made.

        Nor are those that were to be sent together with it.
        """
        refused = in_flight.get((key, id(request)))
        for call in list(in_flight.values()):
            with_it = batch is not None and call.start.batch == batch and call.first_piece is None
            if call is refused or with_it:
                in_flight.pop(call.identity, None)
                for table in list(_tables):
                    table.forget(call)
        if reason is not None:
            self._recorder.count("refused_calls", reason)

    def withdraw(self, key: Key) -> None:
        """What was begun is none of its own: the call is another one, begun inside of it."""
        call = self._open.get(key)
        if call is not None:
            in_flight.pop(call.identity, None)
            self.forget(call)

    def forget(self, call: Call) -> None:
        """A call, if it is in flight here, was not made."""
        for key in [key for key, each in list(self._open.items()) if each is call]:
            if self._open.pop(key, None) is not None:
                call.state = CallState.SETTLED
                self._writer.note_closed(call)
                if call.attribution.watchers:
                    tell_watchers(call, "left_out", call.event_id, self._recorder)
            for owned in call.owners:
                owned.pop((self, key), None)

    def get(self, key: Key, teller: str | None = None) -> Call | None:
        """The call in flight that a piece belongs to, or the end that `teller` tells of."""
        if self._reused and teller is None:
            key = self._reused.of_piece(key, self._open)
        elif self._reused and teller is not None:
            key = self._reused.of_end(key, self._open, self._settled, teller)
        return self._open.get(key)

    def piece(self, key: Key, text: str | None, *, teller: str = "", retold: bool = False) -> bool:
        """A streamed piece arrived.

        Args:
            key: The call.
            text: What it holds; empty for output that is no text, `None` where there is no output
                in it, as in the piece that carries the usage.
            teller: Who says so; only whoever was first to tell of the start is listened to.
            retold: It is told in a second way, in which the first is told again.

        Returns:
            Whether it is the first one of its call.
        """
        if self._reused:
            key = self._reused.of_piece(key, self._open)
        call = self._open.get(key)
        if call is None or teller != call.start.teller:
            return False
        call.seen = self._clock()
        is_first = call.first_piece is None
        if is_first:
            call.first_piece = time.perf_counter_ns()
            self._follow(key, call)
        if text is not None:
            (call.other_pieces if retold else call.pieces).append(text)
        return is_first

    def end(self, key: Key, outcome: Outcome, report: Report, *, teller: str = "") -> None:
        """A call ended; the first to say so settles it.

        An error that is not the last word (`Report.is_last`) waits for one that knows the usage.
        """
        if self._reused:
            key = self._reused.of_end(key, self._open, self._settled, teller)
        call = self._open.get(key)
        if call is not None and not report.is_last:
            if call.failure is None:
                call.failure = Failure(outcome, report, teller, self._clock())
            elif call.failure.teller == teller and call.told.get(teller, 1) == 1:
                self._recorder.count("ignored_signals", outcome)
            return
        if call is None or not self._take(key, call, report, teller):
            self._settled.tell(key, outcome, report, teller, self._now())
            return
        self._settle(call, outcome, report)

    def sweep(self) -> float | None:
        """Close what nobody ends, once it was waited for long enough.

        Returns:
            Seconds until this should be called again; `None` while nothing is in flight.
        """
        now = self._clock()
        for key, call in list(self._open.items()):
            self._close(key, call, verdict(call, now, self._waits))
        self._reused.prune(self._open)
        forget_idle()
        return self._waits.sweep_every if self._open else None

    def settle_decided(self) -> None:
        """Wait no longer for calls that are over by all we know; none in flight is cut."""
        for key, call in list(self._open.items()):
            self._close(key, call, verdict(call, None, self._waits))

    def close(self) -> None:
        """Settle what is still open, as the process ends."""
        for key, call in list(self._open.items()):
            self._close(key, call, verdict(call, None, self._waits) or "open_at_exit")

    def leave(self, key: Key, call: Call) -> None:
        """What a call was begun in is over; it is waited for a while."""
        if call.left is None:
            call.left = self._clock()

    def cancel(self, key: Key, call: Call) -> None:
        """The task of a call was cancelled, and nobody will say how it ended."""
        self._close(key, call, "cancelled")

    def after_fork(self) -> None:
        """In a forked child: the calls in flight are the parent's to settle."""
        for key, call in self._open.items():
            # What its end says here is not late: the parent is told of it as well.
            self._settled.add(key, call, None)
            in_flight.pop(call.identity, None)
        self._open.clear()

    def _tell_again(self, call: Call, start: CallStart) -> None:
        call.told[start.teller] = call.told.get(start.teller, 0) + 1
        current = call.attribution
        merged = start.attribution.beside(current)
        is_reserved = start.reservation is not None and call.reservation is None
        if is_reserved:
            call.reservation = start.reservation
        if merged != current or is_reserved:
            call.attribution = merged
            self._writer.note_open(call)
            if merged.watchers:
                tell_watchers(call, "began", call.event_id, self._recorder)

    def _follow(self, key: Key, call: Call) -> None:
        """Take note of the task in which a call's pieces come, if that is another one."""
        if call.start.task is None:
            return
        task = current_task()
        if task is not None and task is not call.start.task:
            call.producer = task
            owned = owned_by_task(task)
            owned[self, key] = call
            call.owners = (*call.owners, owned)

    def _close(self, key: Key, call: Call, reason: Reason | None) -> None:
        if reason is None:
            return
        # Nobody who would be told of a failure of ours called: not one may keep the others open.
        try:
            failure = call.failure
            if failure is not None:
                if self._take(key, call, failure.report, failure.teller):
                    self._settle(call, failure.outcome, failure.report)
                return
            report = self._writer.so_far(call)
            if reason != "cancelled":
                report = replace(report, flags=(*report.flags, reason))
            if self._take(key, call, report, None):
                call.state = CallState.ABANDONED
                self._settle(call, "aborted", report)
        except Exception:
            self._recorder.count("failures", "closing")

    def _take(self, key: Key, call: Call, report: Report, teller: str | None) -> bool:
        """Take a call out of those in flight; only one caller is given it."""
        usage = report.usage
        is_billed = report.cached or (
            usage is not None and report.is_final and usage.total_tokens is not None
        )
        # Before it leaves: at no moment may it look like a call that nobody knows.
        is_closed = teller is None
        told_by = call.start.teller if teller is None else teller
        past, before = self._settled.leaving(key, call, told_by, is_billed, is_closed=is_closed)
        if self._open.pop(key, None) is None:
            self._settled.put_back(key, before)
            return False
        self._settled.settled(key, past)
        if in_flight.get(call.identity) is call:
            in_flight.pop(call.identity, None)
        for owned in call.owners:
            owned.pop((self, key), None)
        return True

    def _settle(self, call: Call, outcome: Outcome, report: Report) -> None:
        if report.left_out:
            self._writer.leave_out(call, "ignored_signals", report.left_out)
            return
        if outcome == "refused" and report.usage is None and not (call.pieces or call.other_pieces):
            self._writer.leave_out(call, "refused_calls", report.reason)
            return
        status: Status = "failed" if outcome == "refused" else outcome
        self._writer.settle(call, "cached" if report.cached else status, report)
