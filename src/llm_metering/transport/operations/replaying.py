"""Offering a sink again what was recorded: oldest first, under the same ids.

Nothing of it is written down here. What a sink is owed, and what `status` counts, stays as it is:
the events went where they were owed long ago, and this is a person's wish besides.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ...errors import MeteringError
from ...sinks.base import Delivery, Sink
from ..cursor import Item
from ..policy import Standing, after, complete
from ..triage import Held, Triage
from .recorded import Records, moment_of
from .time_order import Entry

__all__ = ["REPORTED", "Replayed", "replay"]

REPORTED: Final = 1000
"""Rejected events that a report names; it counts all of them."""
LOOK_EVERY: Final = 0.1
"""Seconds between two looks whether somebody wants an end."""
PIECE: Final = 200
"""Events read at once."""

INTERRUPTED: Final = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of a replay.

    Attributes:
        events: How many there were.
        taken: What the sink took, or had already.
        rejected: What it will never take.
        rejections: The first of these, each with the sink's reason.
        gone: Events that could not be read any more when their turn came.
        next_since: The time to go on from; everything before it is taken, rejected or gone. `None`
            if nothing is left.
        reason: Why something is left.
    """

    events: int
    taken: int
    rejected: int
    rejections: tuple[Held, ...]
    gone: int
    next_since: datetime | None
    reason: str | None

    @property
    def complete(self) -> bool:
        """Whether the sink has all of it."""
        return self.taken == self.events


def replay(
    records: Records,
    sink: Sink,
    *,
    timeout: float,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Replayed:
    """Offer events to a sink until all of them are settled, or it takes none for too long.

    It waits, searches refused batches and respects `Retry-After` as a shipper does. Where that
    one would wait for a person, such as after a wrong key, it ends: the person is here.

    Args:
        records: What to offer.
        sink: Where to.
        timeout: Seconds that may pass without a single event settled.
        should_stop: Asked again and again; `True` ends it after the answer under way.
        on_progress: Called with the number of events settled.
        clock: A monotonic clock, in seconds.
        sleep: Waits so many seconds.
        chance: Random numbers between 0 and 1.
    """
    run = _Run(records, sink, on_progress)
    standing = Standing()
    settled_at = clock()
    reason: str | None = None
    try:
        while reason is None and (items := run.next_items()):
            done = run.done
            standing = after(run.offer(items), standing, chance=chance())
            now = clock()
            if run.done > done:
                settled_at = now
            if standing.state == "paused" or now + standing.wait > settled_at + timeout:
                reason = standing.reason or "time was up"
            until = now + standing.wait
            while reason is None:
                if should_stop():
                    reason = INTERRUPTED
                elif (left := until - clock()) <= 0:
                    break
                else:
                    sleep(min(left, LOOK_EVERY))
    except KeyboardInterrupt:
        # Whether the sink took what it was just given is not known: it is where to go on from.
        reason = INTERRUPTED
    except (MeteringError, OSError) as error:
        # The ledger is locked for long, or a disk fails: what was settled until now must be said.
        reason = str(error)
    return run.report(reason)


class _Run:
    """The events of a replay: those to come, those in hand, and what became of the others.

    In hand are a few batches at most, however many there are.
    """

    def __init__(self, records: Records, sink: Sink, on_progress: Callable[[int], object]) -> None:
        self._records = records
        self._sink = sink
        self._on_progress = on_progress
        self._triage = Triage()
        self._in_hand: dict[str, tuple[Entry, Item]] = {}
        self._last: Entry | None = None
        self._is_all_read = False
        self._taken = 0
        self._rejected = 0
        self._rejections: list[Held] = []
        self._gone = 0
        self._final: str | None = None

    @property
    def done(self) -> int:
        """How many events are settled."""
        return self._taken + self._rejected + self._gone

    def next_items(self) -> list[Item]:
        """The events to offer next; none, if nothing is left or the sink refuses all that is."""
        while True:
            self._fill()
            items = self._triage.choose(
                [item for _, item in self._in_hand.values()], self._sink.limits
            )
            if items or not self._in_hand:
                return items
            lesson = self._triage.exhausted()
            self._triage = lesson.triage
            self._reject(lesson.dead)
            if lesson.delivery.hold:
                self._final = lesson.delivery.reason
                return []

    def offer(self, items: list[Item]) -> Delivery:
        """Offer a batch; what the answer means, once it is understood."""
        batch = list(items)
        try:
            answer = self._sink.deliver(batch)
        except Exception as error:
            # The message of a foreign error may hold a payload: only its type is kept.
            reason = f"{type(error).__name__} in the sink"
            answer = Delivery.try_later(batch, reason, ambiguous=True)
        lesson = self._triage.learn(items, complete(answer, batch), self._sink.limits)
        self._triage = lesson.triage
        for event_id in lesson.delivery.accepted:
            self._taken += self._in_hand.pop(event_id, None) is not None
        self._reject(Held(*each) for each in sorted(lesson.delivery.rejected))
        self._reject(lesson.dead)
        self._on_progress(self.done)
        return lesson.delivery

    def report(self, reason: str | None) -> Replayed:
        """What became of all of them."""
        first = min((entry for entry, _ in self._in_hand.values()), default=None)
        if first is None and not self._is_all_read:
            first = self._next_unread()
        return Replayed(
            events=self._records.total,
            taken=self._taken,
            rejected=self._rejected,
            rejections=tuple(self._rejections),
            gone=self._gone,
            next_since=None if first is None else moment_of(first),
            reason=None if first is None else reason or self._final,
        )

    def _next_unread(self) -> Entry | None:
        try:
            return next((entry for entry, _ in self._records.read(self._last, 1)), None)
        except (MeteringError, OSError):
            return self._last  # offered and settled; to go on from it is one too many

    def _reject(self, dead: Iterable[Held]) -> None:
        for each in dead:
            if self._in_hand.pop(each.id, None) is not None:
                self._rejected += 1
                if len(self._rejections) < REPORTED:
                    self._rejections.append(each)

    def _fill(self) -> None:
        limits = self._sink.limits
        held = {each.id for each in self._triage.held}
        while not self._is_all_read:
            sizes = [len(item.payload) for _, item in self._in_hand.values() if item.id not in held]
            if len(sizes) >= limits.max_events or sum(sizes) >= limits.max_bytes:
                return
            found = self._records.read(self._last, min(PIECE, limits.max_events))
            self._is_all_read = not found
            for entry, payload in found:
                self._last = entry
                if payload is None:
                    self._gone += 1
                else:
                    self._in_hand[entry.id] = entry, Item(entry.id, payload, entry.end)
