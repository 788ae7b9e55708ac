"""What a fake server notes of each request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.message import Message
from typing import Any

from .faults import Fault

__all__ = ["Received"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came in, and what was answered.

    Attributes:
        method: `POST`, `GET`, ….
        path: Its path, without the query.
        query: What follows the question mark.
        headers: Its headers; names in any case find them.
        body: Its body.
        client: The port that it came from, which tells connections apart.
        status: What was answered; 0 as long as there is no answer, and where there never was one.
        detail: Why it was refused, if it was.
        faults: What was ordered for it.
    """

    method: str
    path: str
    query: str
    headers: Message
    body: bytes
    client: int
    status: int = 0
    detail: str | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in the body; none if it is not JSON."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return []
        listed = document if isinstance(document, list) else [document]
        return [event for event in listed if isinstance(event, dict)]

    @property
    def ids(self) -> list[Any]:
        """The ids of the events in the body."""
        return [event.get("id") for event in self.events]
