"""One sink's place among the events in memory."""

from __future__ import annotations

from collections.abc import Sequence

from ..sinks.base import Delivery, SinkLimits
from .cursor import Item
from .journal import Journal

__all__ = ["HeldCursor"]


class HeldCursor:
    """Reads for one sink what this process's journal holds in memory; as a `Cursor` does a segment.

    What became of an event is remembered as long as it is held. Once it is on disk, a sink that had
    it from here is offered it again, under the same id.

    Attributes:
        own: Always; what another process holds in memory nobody sees.
    """

    own = True

    def __init__(self, journal: Journal, debt_key: str) -> None:
        self._journal = journal
        self._debt = debt_key
        self._last = -1

    def __repr__(self) -> str:
        return f"<HeldCursor {self._journal!r}>"

    def peek(self, limits: SinkLimits) -> list[Item]:
        """The next events that are not settled, as one batch."""
        owed = self._journal.held_for(self._debt)
        self._last = owed[-1][0] if owed else -1
        batch: list[Item] = []
        total = 0
        for number, record in owed[: limits.max_events]:
            payload = record.payload
            total += len(payload) + 1
            if batch and total > limits.max_bytes:
                break
            batch.append(Item(record.event_id, payload, number))
        return batch

    def doubt(self, batch: Sequence[Item], *, now: float) -> None:
        """Nothing is written down: who comes after this process knows nothing of these events."""

    def believe(self, doubtful: int) -> None:
        """As little."""

    @property
    def doubtful(self) -> int:
        """Nowhere."""
        return 0

    def goes_on_behind(self, batch: Sequence[Item]) -> bool:
        """Whether there is more than a batch."""
        return self._last > batch[-1].end

    def settle(self, batch: Sequence[Item], delivery: Delivery) -> int:
        """Note what became of a batch; the journal knows how many there were."""
        dead = {event_id for event_id, _ in delivery.rejected}
        settled = delivery.accepted | dead
        self._journal.settle_held(
            self._debt,
            [(item.end, item.id, item.id not in dead) for item in batch if item.id in settled],
        )
        return 0

    def save(self) -> bool:
        """Nothing has to be written down."""
        return True
