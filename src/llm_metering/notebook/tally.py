"""`CellTally`: the calls of one cell, told to it as they begin and end."""

from __future__ import annotations

import time
from typing import Final, Literal

import msgspec

from ..errors import CallRefusedError
from ..events import UsageEvent
from ..prices import Cost, PriceList, Unpriced, cost_of
from .budget import Budget, Spent

__all__ = ["CellTally"]

_STEP: Final = 0.01
"""Seconds from one look to the next, while calls are being counted."""


class CellTally:
    """What a cell used; a `CallWatcher`.

    It has no lock: each step is one of a dict, and whichever thread knows takes it.

    Args:
        prices: What models cost.
        budget: What the cell may spend, if that is bounded.

    Attributes:
        budget: The same.
        refusals: What was raised in place of calls.
    """

    def __init__(self, prices: PriceList, budget: Budget | None = None) -> None:
        self.budget = budget
        self.refusals: list[CallRefusedError] = []
        self._prices = prices
        self._open: dict[str, Literal["in flight", "counting"]] = {}
        self._events: dict[str, UsageEvent] = {}
        self._costs: dict[str, Cost | Unpriced] = {}
        self._spent = Spent()

    def __repr__(self) -> str:
        return f"<CellTally calls={len(self._events)} in_flight={len(self._open)}>"

    @property
    def events(self) -> list[UsageEvent]:
        """What was recorded of the calls that are over, in the order in which they ended."""
        return list(self._events.values())

    @property
    def in_flight(self) -> int:
        """Calls that are not over, or are still being counted."""
        return len(self._open)

    def refusal(self, provider: str | None, model: str | None) -> CallRefusedError | None:
        """What to raise before such a call is made."""
        if self.budget is None:
            return None
        # Of two threads that add at once, each is right, and it does not matter who is kept.
        spent = self._spent
        spent = spent.and_also(map(self.cost_of, self.events[spent.calls :]))
        self._spent = spent
        refusal = self.budget.refusal(provider, model, self._prices, spent)
        if refusal is not None:
            self.refusals.append(refusal)
        return refusal

    def began(self, event_id: str) -> None:
        """A call is made."""
        if event_id not in self._events:
            self._open.setdefault(event_id, "in flight")

    def counting(self, event_id: str) -> None:
        """It is over, and its tokens are being counted."""
        if event_id not in self._events:
            self._open[event_id] = "counting"

    def settled(self, event: UsageEvent) -> None:
        """It is over."""
        # A meter that is told of it, too, says the same under the same id.
        self._events.setdefault(event.id, event)
        self._open.pop(event.id, None)

    def left_out(self, event_id: str) -> None:
        """It is over and has no event of its own."""
        self._open.pop(event_id, None)

    def wait(self, timeout: float) -> None:
        """Wait for what is being counted; calls in flight are not waited for.

        Args:
            timeout: Seconds.
        """
        deadline = time.monotonic() + timeout
        while "counting" in list(self._open.values()) and time.monotonic() < deadline:
            time.sleep(_STEP)

    def cost_of(self, event: UsageEvent) -> Cost | Unpriced:
        """What a call cost, worked out once."""
        known = self._costs.get(event.id)
        if known is None:
            known = self._costs[event.id] = _cost_of(event, self._prices)
        return known


def _cost_of(event: UsageEvent, prices: PriceList) -> Cost | Unpriced:
    try:
        return cost_of(event.data(), prices, time=event.time)
    except msgspec.ValidationError:
        return Unpriced("unknown_usage", "its counts cannot be read")
