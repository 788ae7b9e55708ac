"""`Call`: one call in flight, as all tables of this process share it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

import msgspec

from ..events import new_event_id
from ..exchange import Output
from ..subjects import Attribution
from .values import CallStart, CallState, Outcome, Report, Reserved

__all__ = ["Call", "Failure", "Key", "in_flight"]

Key = Hashable
"""What a front end calls a call by."""


class Failure(NamedTuple):
    """An error that may not be the last word on a call.

    Attributes:
        outcome: What it was.
        report: What came with it.
        teller: Who told of it.
        time: When, by the table's clock.
    """

    outcome: Outcome
    report: Report
    teller: str
    time: float


# A Struct: to fill in so many attributes one by one takes twice as long.
class Call(msgspec.Struct, eq=False, weakref=True):
    """What is known of a call in flight.

    Attributes:
        identity: By what every table knows it: the same request object under the same key. While it is
            in flight it holds its request, whose `id` is therefore nobody else's.
        event_id: The id of its event.
        start: How it began.
        attribution: Who pays, by all who told of it.
        told: How often each handler told of the start.
        seen: The last sign of life, by the table's clock.
        started: When it began, in nanoseconds.
        thread: The thread it was begun in.
        first_piece: When the first piece arrived, in nanoseconds.
        pieces: The text that arrived.
        other_pieces: The same text, as it was told in a second way.
        flags: What was odd, beside what is odd about who pays.
        state: Where it is in its life.
        left: When what the call was begun in was over, though the call was not; else `None`.
        owners: The calls of each owner that it was begun in, itself among them.
        failure: An error that is perhaps followed by the usage.
        producer: The task that its first piece came in, where that is not the one it was begun in.
        reservation: What is reserved for it.
    """

    identity: tuple[Key, int]
    event_id: str
    start: CallStart
    attribution: Attribution
    told: dict[str, int]
    seen: float
    started: int
    thread: int
    first_piece: int | None = None
    pieces: list[str] = []
    other_pieces: list[str] = []
    flags: tuple[str, ...] = ()
    state: CallState = CallState.OPEN
    left: float | None = None
    owners: tuple[dict[Any, Call], ...] = ()
    failure: Failure | None = None
    producer: asyncio.Task[Any] | None = None
    reservation: Reserved | None = None

    @classmethod
    def begin(cls, key: Key, start: CallStart, now: float) -> Call:
        """A call that begins here and now.

        Args:
            key: What it is called by.
            start: How it begins.
            now: The table's clock.
        """
        call = cls(
            (key, id(start.request)),
            new_event_id(),
            start,
            start.attribution,
            {start.teller: 1},
            now,
            time.perf_counter_ns(),
            threading.get_ident(),
        )
        if start.reservation is not None:
            call.reservation = start.reservation
        return call

    @property
    def reservation_id(self) -> str | None:
        """The id of what is reserved for it."""
        return None if self.reservation is None else self.reservation.id

    def __repr__(self) -> str:
        # Not the pieces: they are an answer.
        return f"<Call {self.event_id} {self.state.value} {self.start!r}>"

    def received(self) -> Output:
        """The text that arrived; one told twice of the start is told twice of each piece."""
        step = self.told[self.start.teller]
        ways = ("".join(pieces[::step]) for pieces in (self.pieces, self.other_pieces))
        # What was told in two ways is the same text; the way that tells more tells all of it.
        return Output(texts=[max(ways, key=len)])


in_flight: Final[dict[tuple[Key, int], Call]] = {}
"""The calls in flight of all tables of this process, by their identity.

A call that two meters are told of, one of `install()` and one that its own handler was given, is
one call: each meter records it, both under one id and for one subject, so that it counts once
wherever their books meet."""
