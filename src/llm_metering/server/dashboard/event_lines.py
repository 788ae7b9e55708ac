"""`EventLine`: an event as a page shows it, whatever somebody sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ...ledger import ListedEvent

__all__ = ["EventLine", "line_of"]

_MOST_SHOWN: Final = 8000
_MOST_FLAGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """An event as a page shows it.

    Attributes:
        id: Unique within its source.
        source: The CloudEvents source.
        type: The CloudEvents type.
        subject: Who pays.
        time: When it was.
        arrived_at: When the ledger took it.
        model: As the event has it.
        input_tokens: Likewise.
        output_tokens: Likewise.
        total_tokens: Likewise.
        provenance: Likewise.
        status: Likewise.
        flags: Likewise.
        text: All of it as JSON, as far as it is not very long.
        is_cut: Whether there is more.
        has_body: Whether its body was kept.
    """

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    arrived_at: datetime | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    provenance: str | None
    status: str | None
    flags: tuple[str, ...]
    text: str
    is_cut: bool
    has_body: bool


def line_of(event: ListedEvent) -> EventLine:
    """How an event is shown; what is not of the kind that is expected is left out."""
    document = event.to_dict()
    data = document.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    flags = fields.get("flags")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return EventLine(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=event.time,
        arrived_at=event.arrived_at,
        model=_text(fields.get("model")),
        input_tokens=_count(fields.get("input_tokens")),
        output_tokens=_count(fields.get("output_tokens")),
        total_tokens=_count(fields.get("total_tokens")),
        provenance=_text(fields.get("provenance")),
        status=_text(fields.get("status")),
        flags=tuple(str(each) for each in flags[:_MOST_FLAGS]) if isinstance(flags, list) else (),
        text=text[:_MOST_SHOWN],
        is_cut=len(text) > _MOST_SHOWN,
        has_body=event.payload is not None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
