"""What tests are made of: events with sensible values for everything a test is not about."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.sinks.base import Envelope
from llm_metering.token_usage import TokenUsage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def make_event(**overrides: Any) -> UsageEvent:
    """A completed call of customer-42 at noon, with an id of its own.

    `usage=None` makes it a call of which nothing is known.
    """
    values: dict[str, Any] = {
        "id": new_event_id(),
        "source": "tests",
        "subject": "customer-42",
        "time": NOON,
        "status": "completed",
        "usage": TokenUsage(input_tokens=100, output_tokens=20),
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-5-mini",
        "framework": "langchain",
    }
    values |= overrides
    values.setdefault("provenance", "missing" if values["usage"] is None else "reported")
    return UsageEvent(**values)


def envelope_of(event: UsageEvent) -> Envelope:
    """The event as a shipper hands it to a sink."""
    return Envelope(id=event.id, payload=encode(event))


def batch_of(events: Iterable[UsageEvent]) -> list[Envelope]:
    """The events as one batch."""
    return [envelope_of(event) for event in events]
