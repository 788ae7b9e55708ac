"""Which events a fault is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A fault of some events: of those that all fits that is given.

    Attributes:
        id: Their id, or several.
        subject: Their subject.
        data: Keys of their `data` with their values.
        matches: A function of an event.
    """

    id: str | Sequence[str] | None = None
    subject: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    matches: Callable[[Mapping[str, Any]], bool] | None = None

    def hits(self, event: Mapping[str, Any]) -> bool:
        """Whether it is this event that is meant."""
        data = event.get("data") or {}
        ids = (self.id,) if isinstance(self.id, str) else self.id
        return (
            (ids is None or event["id"] in ids)
            and self.subject in (None, event["subject"])
            and all(key in data and data[key] == value for key, value in self.data.items())
            and (self.matches is None or self.matches(event))
        )
