"""What an account should hold, hour by hour: a reference that is slow and plain.

Nothing of the library's code works here but its values. All moments are whole hours from `START` on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from llm_metering.limits import Grant

__all__ = ["START", "Model", "hour"]

START = datetime(2026, 1, 1, tzinfo=UTC)


def hour(number: int) -> datetime:
    """So many hours from `START`."""
    return START + timedelta(hours=number)


def number_of(moment: datetime) -> int:
    return (moment - START) // timedelta(hours=1)


@dataclass
class Model:
    """An account whose usage period begins every so many hours; `None` is never."""

    every: int | None = None
    preserves: bool = False
    now: int = 0
    grants: dict[str, Grant] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    usage: int = 0
    overage: int = 0

    def add(self, grant: Grant) -> None:
        self.grants[grant.id] = grant
        self.left[grant.id] = 0
        self.ends[grant.id] = 10**9 if grant.expires_at is None else number_of(grant.expires_at)
        if self._is_active(grant.id):
            self.left[grant.id] = grant.amount
        self._pay()

    def void(self, name: str) -> None:
        if name in self.grants and self.ends[name] > self.now:
            self.ends[name] = self.now
            self.left[name] = 0

    def burn(self, amount: int) -> None:
        self.usage += amount
        self.overage += amount
        self._pay()

    def wait_until(self, until: int) -> None:
        while self.now < until:
            self.now += 1
            self._strike()

    def _strike(self) -> None:
        """The hour begins."""
        begins = self.every is not None and self.now % self.every == 0
        for name, grant in self.grants.items():
            first = number_of(grant.effective_at)
            if not self._is_active(name):
                self.left[name] = 0
                continue
            if begins and first < self.now:
                self.left[name] = min(grant.max_rollover, max(grant.min_rollover, self.left[name]))
            if first == self.now:
                self.left[name] = grant.amount
            if grant.recurrence is not None:
                hours = {"HOUR": 1, "DAY": 24, "WEEK": 168}[grant.recurrence.interval]
                if (self.now - number_of(grant.recurrence.anchor)) % hours == 0:
                    self.left[name] = grant.amount
        if begins:
            self.usage = 0
            self.overage = self.overage if self.preserves else 0
        self._pay()

    def _pay(self) -> None:
        for name in _in_order(self.grants):
            taken = min(self.left[name], self.overage)
            self.left[name] -= taken
            self.overage -= taken

    def _is_active(self, name: str) -> bool:
        return number_of(self.grants[name].effective_at) <= self.now < self.ends[name]


def _in_order(grants: Mapping[str, Grant]) -> Sequence[str]:
    """The lower priority first; then what expires sooner, what never does last; then the older one."""
    names = sorted(grants)
    names.sort(key=lambda name: grants[name].created_at)
    never = datetime(9999, 1, 1, tzinfo=UTC)
    names.sort(key=lambda name: grants[name].expires_at or never)
    names.sort(key=lambda name: grants[name].priority)
    return names
