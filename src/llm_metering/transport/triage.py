"""Which events of a refused batch are to blame: decisions only, no clock and no I/O.

A batch that was refused as one holds at least one event to blame. Half of it is offered: if that
is taken, the other half holds it, if not, that half does. So log2(n) requests leave one event, and
one more shows that it is refused alone. Nothing dies by deduction.

An event that is refused alone is *held*, not dead: it may be the server that is to blame. Once the
server takes something, it is offered alone again, and if it is refused on that side of a success
too, it dies. It also dies if the server refuses another one with another answer, or if nothing else
is left to offer and a part of the batch that it was in was taken. Otherwise, and if `GUARD` are
held, the sink pauses and all of them stay pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..sinks.base import Delivery, SinkLimits
from .cursor import Item

__all__ = ["GUARD", "Held", "Lesson", "Triage"]

GUARD: Final = 20
"""So many events refused alone in a row, with one answer, are no accident."""
ALONE_AFTER: Final = 3
"""Held events after which others are offered one by one: another search would cost more."""
_STEPS: Final = 50
"""Batches that are taken before the limit on a batch is back from nothing at the sink's own."""


@dataclass(frozen=True, slots=True)
class Held:
    """An event that was refused alone, with the sink's reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Triage:
    """What a shipper knows about refusals of its sink.

    Attributes:
        group: Events, in order, one of which at least is to blame for a refusal.
        blamed: The one of them that the server named.
        held: Events refused alone, in a row, with one answer.
        heard: Events that were held when the server took something; offered alone once more.
        paused: Whether everything was refused, so that single events are offered to find out.
        turn: Probes since the pause began.
        root: The batch that the search began with.
        witnessed: Whether the server has taken a part of it.
        limit: The most events of a batch, while the server finds the sink's own limit too large.
        regain: The limit before refusals that turned out to be for one event's size.
    """

    group: tuple[str, ...] = ()
    blamed: str | None = None
    held: tuple[Held, ...] = ()
    heard: frozenset[str] = frozenset()
    paused: bool = False
    turn: int = 0
    root: frozenset[str] = frozenset()
    witnessed: bool = False
    limit: int | None = None
    regain: int | None = None

    def __repr__(self) -> str:
        parts = [
            f"searching={len(self.group)}" if self.group else "",
            f"held={len(self.held)}" if self.held else "",
            f"heard={len(self.heard)}" if self.heard else "",
            f"paused turn={self.turn}" if self.paused else "",
            f"limit={self.limit}" if self.limit is not None else "",
        ]
        return f"<Triage {' '.join(filter(None, parts)) or 'at rest'}>"

    @property
    def is_at_rest(self) -> bool:
        """Whether batches are simply the next events."""
        return not (self.group or self.held or self.heard or self.paused or self.limit is not None)

    def choose(self, waiting: Sequence[Item], limits: SinkLimits) -> list[Item]:
        """Say which of the events that wait are offered next, in their order.

        Args:
            waiting: What is not settled, oldest first.
            limits: The sink's own.

        Returns:
            Nothing, if all of them are held.
        """
        held = {each.id for each in self.held}
        fresh = [item for item in waiting if item.id not in held]
        if self.paused:
            return [fresh[self.turn % len(fresh)]] if fresh else []
        heard = [item for item in fresh if item.id in self.heard]
        if heard:
            return heard[:1]
        if self.group:
            members = frozenset(self.group)
            suspects = [item for item in fresh if item.id in members]
            blamed = [item for item in suspects if item.id == self.blamed]
            if suspects:
                fresh = blamed or suspects[: (len(suspects) + 1) // 2]
        most = 1 if len(self.held) >= ALONE_AFTER else self._most(limits)
        return _first(fresh, replace(limits, max_events=most))

    def learn(self, offered: Sequence[Item], delivery: Delivery, limits: SinkLimits) -> Lesson:
        """Say what an answer teaches.

        Args:
            offered: The batch, as `choose` chose it.
            delivery: What became of it, complete.
            limits: The sink's own.
        """
        if self == _AT_REST and not (delivery.retryable or delivery.rejected):
            return Lesson(self, delivery)
        if delivery.accepted and delivery.unasked:
            return self._settled_unasked(offered, delivery, limits)
        if delivery.accepted:
            return self._taken(offered, delivery, limits)
        if delivery.refusal is None or not delivery.retryable:
            probed = self.paused and bool(delivery.retryable)
            return Lesson(replace(self, turn=self.turn + probed), delivery)
        refused = [item.id for item in offered if item.id in delivery.retryable]
        if len(refused) == 1 and refused[0] in self.heard and not self.paused:
            return self._refused_again(refused[0], delivery)
        if not self.root.issuperset(refused):
            rooted = replace(self, root=frozenset(refused), witnessed=False)
            return rooted.learn(offered, delivery, limits)
        if len(refused) == 1:
            return self._refused_alone(refused[0], delivery, limits)
        if delivery.refusal == "size":
            most = self._most(limits)
            halved = replace(self, limit=len(refused) // 2, regain=self.regain or most)
            return Lesson(halved, delivery)
        # A name that was wrong once is not asked for again in this search.
        searching = self.group and not set(refused).isdisjoint(self.group)
        trusted = not searching or self.blamed is not None
        blamed = delivery.blamed if trusted and delivery.blamed in refused else None
        return Lesson(replace(self, group=tuple(refused), blamed=blamed), delivery)

    def without(self, event_ids: frozenset[str]) -> Triage:
        """What is known, now that some events are not to be offered any more."""
        return replace(
            self,
            group=tuple(each for each in self.group if each not in event_ids),
            blamed=None if self.blamed in event_ids else self.blamed,
            heard=self.heard - event_ids,
        )

    def exhausted(self) -> Lesson:
        """Say what is to be done now that nothing but held events is left to offer."""
        if self.witnessed:
            return Lesson(replace(self, held=()), Delivery(), self.held)
        return _paused(self, Delivery(), self.held[-1].reason)

    def _taken(self, offered: Sequence[Item], delivery: Delivery, limits: SinkLimits) -> Lesson:
        settled = delivery.accepted | {event_id for event_id, _ in delivery.rejected}
        group = tuple(each for each in self.group if each not in settled)
        limit = self.limit
        if limit is not None and len(offered) >= limit:
            limit = _below(limit + max(1, limits.max_events // _STEPS), limits)
        state = replace(
            self,
            group=group,
            # The server named an event that it takes.
            blamed=None if self.blamed in delivery.accepted else self.blamed,
            held=(),
            heard=(self.heard | {each.id for each in self.held}) - settled,
            paused=False,
            turn=0,
            # Where the search is over, so is what it may conclude.
            root=self.root if group else frozenset(),
            witnessed=bool(group) and (self.witnessed or not self.root.isdisjoint(settled)),
            limit=limit,
            regain=None,
        )
        return Lesson(state, delivery)

    def _settled_unasked(
        self, offered: Sequence[Item], delivery: Delivery, limits: SinkLimits
    ) -> Lesson:
        """As if only the others had been offered: of these alone the answer says something."""
        settled = delivery.accepted
        rest = [item for item in offered if item.id not in settled]
        lesson = self.without(settled).learn(rest, replace(delivery, accepted=frozenset()), limits)
        told = replace(lesson.delivery, accepted=lesson.delivery.accepted | settled)
        return replace(lesson, delivery=told)

    def _refused_again(self, event_id: str, delivery: Delivery) -> Lesson:
        dead = delivery.rejected | {(event_id, delivery.reason or "refused")}
        verdict = replace(delivery, retryable=delivery.retryable - {event_id}, rejected=dead)
        return Lesson(replace(self, heard=self.heard - {event_id}), verdict)

    def _refused_alone(self, event_id: str, delivery: Delivery, limits: SinkLimits) -> Lesson:
        reason = delivery.reason or "refused"
        found = replace(self, group=(), blamed=None)
        if delivery.refusal == "size" and self.regain is not None:
            # It was this event that was too large, not the batches.
            found = replace(found, limit=_below(self.regain, limits), regain=None)
        if self.paused:
            return _paused(replace(found, turn=self.turn + 1), delivery, reason)
        other = tuple(each for each in self.held if each.reason != reason)
        held = (*(() if other else self.held), Held(event_id, reason))
        found = replace(found, held=held)
        if len(held) >= GUARD:
            return _paused(found, delivery, reason)
        return Lesson(found, delivery, other)

    def _most(self, limits: SinkLimits) -> int:
        return limits.max_events if self.limit is None else min(self.limit, limits.max_events)


_AT_REST: Final = Triage()


@dataclass(frozen=True, slots=True)
class Lesson:
    """What follows from an answer.

    Attributes:
        triage: What is known now.
        delivery: What became of the batch.
        dead: Events held until now that are to blame themselves.
    """

    triage: Triage
    delivery: Delivery
    dead: tuple[Held, ...] = ()


def _paused(triage: Triage, delivery: Delivery, reason: str) -> Lesson:
    events = f"{len(triage.held)} events" if len(triage.held) > 1 else "an event"
    told = replace(delivery, refusal=None, hold=True, reason=f"{reason}, to {events} sent alone")
    return Lesson(replace(triage, group=(), blamed=None, paused=True), told)


def _below(limit: int, limits: SinkLimits) -> int | None:
    return limit if limit < limits.max_events else None


def _first(items: Iterable[Item], limits: SinkLimits) -> list[Item]:
    batch: list[Item] = []
    total = 0
    for item in items:
        total += len(item.payload) + 1
        if len(batch) >= limits.max_events or (batch and total > limits.max_bytes):
            break
        batch.append(item)
    return batch
