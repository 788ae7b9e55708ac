"""`EventQuery` and `ListedEvent`: the events of a ledger themselves, the latest first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ..errors import QueryError
from ..meters import rfc3339

__all__ = ["MOST_EVENTS", "EventQuery", "ListedEvent"]

MOST_EVENTS: Final = 1000
"""That are listed at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events are listed.

    Attributes:
        start: The first moment of which an event may be; aware.
        end: The first moment of which none may be.
        arrived_from: The first moment at which an event may have come, in whole seconds.
        arrived_before: The first moment at which none may have come.
        id: A part of its id.
        subject: Whose they are.
        limit: How many at most.

    Raises:
        QueryError: If the limit is none, or a moment has no time zone.
    """

    start: datetime | None = None
    end: datetime | None = None
    arrived_from: datetime | None = None
    arrived_before: datetime | None = None
    id: str | None = None
    subject: str | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST_EVENTS:
            raise QueryError(f"limit is a number from 1 to {MOST_EVENTS}, got {self.limit}")
        for name in ("start", "end", "arrived_from", "arrived_before"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise QueryError(f"{name} {moment.isoformat()} names no time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvent:
    """An event as the ledger has it.

    Attributes:
        id: Unique within its source.
        source: The CloudEvents source.
        type: The CloudEvents type.
        subject: Who pays.
        time: When it was, in UTC.
        arrived_at: When the ledger took it, in UTC, to the second; `None` of one that an older library
            has taken.
        payload: The CloudEvent as it was delivered; `None` if its body was given up by `prune`.
    """

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    arrived_at: datetime | None
    payload: bytes | None

    def to_dict(self) -> dict[str, Any]:
        """The CloudEvent; of one whose body was given up, what is known without it."""
        if self.payload is not None:
            event: dict[str, Any] = json.loads(self.payload)
            return event
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": rfc3339(self.time),
        }
