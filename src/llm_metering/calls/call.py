"""`Call`: one call in flight, as all tables of this process share it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

from ..events import new_event_id
from ..exchange import Output
from .values import CallStart, CallState, Outcome, Report

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


class Call:
    """What is known of a call in flight.

    Args:
        key: What it is called by.
        start: How it began.
        now: The table's clock.

    Attributes:
        identity: By what every table knows it: the same request object under the same key. While it is
            in flight it holds its request, whose `id` is therefore nobody else's.
        pieces: The text of a stream, and in `other_pieces` the same told in a second way.
        told: How often each handler told of the start.
        seen: The last sign of life, by the table's clock.
        owners: The calls of each owner that it was begun in, itself among them.
        pieces: The text that arrived.
        other_pieces: The same text, as it was told in a second way.
        left: When what the call was begun in was over, though the call was not; else `None`.
        failure: An error that is perhaps followed by the usage.
        thread: The thread it was begun in.
        producer: The task that its first piece came in, where that is not the one it was begun in.
    """

    __slots__ = (
        "attribution",
        "event_id",
        "failure",
        "first_piece",
        "flags",
        "identity",
        "left",
        "other_pieces",
        "owners",
        "pieces",
        "producer",
        "seen",
        "start",
        "started",
        "state",
        "thread",
        "told",
    )

    def __init__(self, key: Key, start: CallStart, now: float) -> None:
        self.identity = key, id(start.request)
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
        self.seen = now
        self.left: float | None = None
        self.owners: tuple[dict[Any, Call], ...] = ()
        self.failure: Failure | None = None
        self.thread = threading.get_ident()
        self.producer: asyncio.Task[Any] | None = None

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
