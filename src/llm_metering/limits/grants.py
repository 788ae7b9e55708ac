"""`Grant`: an amount that a subject may use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..errors import InvalidArgumentError
from .recurrence import Recurrence

__all__ = ["LOWEST_PRIORITY", "Grant"]

LOWEST_PRIORITY: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An amount that a subject may use, from one moment on and perhaps to another.

    The names and what they mean are OpenMeter's
    (https://openmeter.io/docs/billing/entitlements/grant).

    Attributes:
        id: Names it, among the grants of its account.
        amount: How much, in the smallest parts of its unit.
        priority: Which is used first: from 1 to 255, the lower the sooner. Of the same priority, the one
            that ends sooner is used first; then the one that was made sooner.
        created_at: When it was made.
        effective_at: From when on it can be used.
        expires_at: The first moment at which it can no longer be used; `None` is never.
        voided_at: The same, where somebody took back what was left.
        recurrence: When it is all there again, whatever was left.
        min_rollover: How much there is at least when a usage period begins.
        max_rollover: How much is kept at most from one usage period to the next.

    Raises:
        InvalidArgumentError: If a value makes no sense; a moment needs a time zone.
    """

    id: str
    amount: int
    priority: int = 100
    created_at: datetime
    effective_at: datetime
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    recurrence: Recurrence | None = None
    min_rollover: int = 0
    max_rollover: int = 0

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidArgumentError("a grant needs an id")
        if self.amount <= 0:
            raise InvalidArgumentError(f"amount is more than 0, got {self.amount}")
        if not 1 <= self.priority <= LOWEST_PRIORITY:
            raise InvalidArgumentError(f"priority is from 1 to 255, got {self.priority}")
        if not 0 <= self.min_rollover <= self.max_rollover:
            raise InvalidArgumentError(
                "min_rollover is from 0 to max_rollover, got "
                f"{self.min_rollover} and {self.max_rollover}"
            )
        for name in ("created_at", "effective_at", "expires_at", "voided_at"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InvalidArgumentError(f"{name} ({moment.isoformat()}) needs a time zone")
        if self.expires_at is not None and self.expires_at <= self.effective_at:
            raise InvalidArgumentError(
                f"expires_at ({self.expires_at.isoformat()}) is behind effective_at "
                f"({self.effective_at.isoformat()})"
            )

    @property
    def ends_at(self) -> datetime | None:
        """The first moment at which it can no longer be used, for whatever reason."""
        ends = [each for each in (self.expires_at, self.voided_at) if each is not None]
        return min(ends, default=None)

    def is_active(self, moment: datetime) -> bool:
        """Whether it can be used at a moment."""
        ends = self.ends_at
        return self.effective_at <= moment and (ends is None or moment < ends)

    @property
    def order(self) -> tuple[int, bool, float, float, str]:
        """What decides which of two is used first."""
        ends = self.expires_at
        return (
            self.priority,
            ends is None,
            0.0 if ends is None else ends.timestamp(),
            self.created_at.timestamp(),
            self.id,
        )

    def kept(self, left: int) -> int:
        """What there is of it when a usage period begins, of what was left of the last one."""
        return min(self.max_rollover, max(self.min_rollover, left))
