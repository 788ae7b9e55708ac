"""What of an event goes into which column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..sinks._payload import UnusableEventError, read_event

__all__ = ["COLUMNS", "EPOCH", "INSERT", "Row", "microseconds", "read_row"]

Row = tuple[str | int | None, ...]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

MAX_COUNT: Final = 10**12
"""No single call has a trillion tokens; nine million calls at this bound still add up within
SQLite's integers, beyond which a sum would turn into an inexact number without a word."""

_TEXTS: Final = ("provider", "model", "operation", "framework", "provenance", "status")
_COUNTS: Final = (
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_output_tokens",
    "calls",
)
COLUMNS: Final = ("source", "id", "type", "subject", "time", *_TEXTS, *_COUNTS, "payload")

INSERT: Final = (
    f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (source, id) DO NOTHING"
)


def microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to an aware time."""
    return (moment - EPOCH) // _MICROSECOND


def read_row(payload: bytes) -> Row:
    """The columns of an event, in the order of `COLUMNS`.

    Raises:
        UnusableEventError: If it is no event, or one that cannot be counted.
    """
    event = read_event(payload)
    if not EPOCH <= event.time < _END:
        raise UnusableEventError("its time is not between 1970 and 9998")
    return (
        event.source,
        event.id,
        event.type,
        event.subject,
        microseconds(event.time),
        *(_text(event.data, key) for key in _TEXTS),
        *(_count(event.data, key) for key in _COUNTS),
        payload.decode(),
    )


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) and value else None


def _count(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    # bool is an int to Python, but true is no token count.
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_COUNT):
        raise UnusableEventError(f"its {key} is no whole number between 0 and 10^12")
    return value
