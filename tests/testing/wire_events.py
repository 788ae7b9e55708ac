"""Events as they go over the wire."""

from __future__ import annotations

from typing import Any


def wire_event(id: str = "1", **overrides: Any) -> dict[str, Any]:
    """An event of 120 tokens for customer-42; `...` leaves an attribute out."""
    event = {
        "specversion": "1.0",
        "id": id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "customer-42",
        "time": "2026-11-21T12:00:00.123Z",
        "data": {"total_tokens": 120, "model": "gpt-5-mini"},
    }
    return {key: value for key, value in (event | overrides).items() if value is not ...}


def wire_events(*ids: str) -> list[dict[str, Any]]:
    """Events with these ids."""
    return [wire_event(id) for id in ids]
