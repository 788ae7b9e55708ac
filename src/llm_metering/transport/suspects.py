"""Events that a sink may have although it did not say so: decisions only, no clock and no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from ..sinks.base import Delivery

__all__ = ["Suspects"]


@dataclass(frozen=True, slots=True)
class Suspects:
    """Events whose last word from the sink is none, or one that leaves it open.

    They are offered again under the same ids, and a sink that still knows these counts them once.
    When it may have forgotten them, they become dead letters, for a person to compare: sent again
    they could be billed twice, given up they could be billed never.

    Attributes:
        since: When each was first sent without a clear answer, in seconds since 1970. Of that clock,
            since a machine may sleep, and a process be frozen, for days.
    """

    since: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Suspects {len(self.since)}>"

    def learn(self, delivery: Delivery, *, now: float) -> Suspects:
        """What is suspect after a delivery."""
        if not self.since and not delivery.ambiguous:
            return self
        settled = delivery.accepted | {event_id for event_id, _ in delivery.rejected}
        added = delivery.retryable if delivery.ambiguous else frozenset[str]()
        if not added and settled.isdisjoint(self.since):
            return self
        return Suspects(
            dict.fromkeys(added, now)
            | {each: first for each, first in self.since.items() if each not in settled}
        )

    def join(self, event_ids: Iterable[str], *, since: float) -> Suspects:
        """What is suspect with those that another process left."""
        return Suspects(dict.fromkeys(event_ids, since) | dict(self.since))

    def forget(self, event_ids: frozenset[str]) -> Suspects:
        """What is suspect without these."""
        return self.learn(Delivery(accepted=event_ids), now=0.0)

    def overdue(self, window: timedelta | None, *, now: float) -> frozenset[str]:
        """The events that the sink may have had and forgotten."""
        if window is None or not self.since:
            return frozenset()
        end = now - window.total_seconds()
        return frozenset(each for each, first in self.since.items() if first < end)
