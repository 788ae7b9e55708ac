"""What of an event goes into which column."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import astuple

from ..sinks._payload import UnusableEventError, read_event_as

__all__ = [
    "ALL_COLUMNS",
    "COLUMNS",
    "EPOCH",
    "Row",
    "check_event",
    "inserts",
    "microseconds",
    "read_row",
]

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
"""What is the same in every schema."""
ALL_COLUMNS: Final = (*COLUMNS, "plain_tier")

_INTO: Final = f"INSERT INTO events ({', '.join(ALL_COLUMNS)}) VALUES "
_VALUES: Final = f"({', '.join('?' * len(ALL_COLUMNS))})"
_UNLESS_THERE: Final = " ON CONFLICT (source, id) DO NOTHING"

ROWS_AT_ONCE: Final = 1000
"""Of one statement, if SQLite takes so many parameters (before 3.32 it takes 999). The interpreter's
lock is given up for each statement; in a busy application it takes milliseconds to come back."""


_TIER: Final = len(_TEXTS) + len(_COUNTS)
_IS_NOTHING: Final = slice(_TIER + 1, -5)
_IS_SOMETHING: Final = slice(-5, None)
_NONE: Final = (None,) * 5

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None


class _Data(msgspec.Struct, gc=False):
    """What columns are filled from, in their order, and what else decides what an event costs."""

    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    framework: str | None = None
    provenance: str | None = None
    status: str | None = None
    total_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    reasoning_output_tokens: _Count = None
    calls: _Count = None
    service_tier: str | None = None
    # Of the same types as there, so that what is odd there is not plain here. 0 of these is nothing.
    cache_creation_1h_input_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    web_search_requests: int | float | None = None
    web_fetch_requests: int | float | None = None
    code_execution_requests: int | float | None = None
    search_units: int | float | None = None
    classifications: int | float | None = None
    images: int | float | None = None
    audio_seconds: int | float | None = None
    # 0 of these is something.
    billed_input_tokens: int | float | None = None
    billed_output_tokens: int | float | None = None
    reported_cost: int | float | None = None
    quantity: int | float | None = None
    unit: str | None = None


class _AnyData(msgspec.Struct, gc=False):
    """The same of any type: of an event that was not made as ours are."""

    provider: Any = None
    model: Any = None
    operation: Any = None
    framework: Any = None
    provenance: Any = None
    status: Any = None
    total_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    reasoning_output_tokens: Any = None
    calls: Any = None


class _Event(msgspec.Struct, kw_only=True):
    """An event as far as columns are filled from it: a third of the time that all of it takes."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: _Data
    specversion: str = "1.0"


class _AnyEvent(msgspec.Struct, kw_only=True):
    """The same, with data of any type."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: _AnyData
    specversion: str = "1.0"


_event = msgspec.json.Decoder(_Event)
_any_event = msgspec.json.Decoder(_AnyEvent)


def inserts(
    rows: list[Row], *, most_parameters: int
) -> Iterator[tuple[str, tuple[str | int | None, ...]]]:
    """The statements that insert rows, where they are not there yet, with their parameters."""
    at_once = min(ROWS_AT_ONCE, most_parameters // len(ALL_COLUMNS))
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        statement = _INTO + ", ".join([_VALUES] * len(some)) + _UNLESS_THERE
        yield statement, tuple(chain.from_iterable(some))


def microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to an aware time."""
    return (moment - EPOCH) // _MICROSECOND


def read_row(payload: bytes) -> Row:
    """The columns of an event, in the order of `ALL_COLUMNS`.

    Raises:
        UnusableEventError: If it is no event, or one that cannot be counted.
    """
    event: _Event | _AnyEvent
    plain_tier: str | None = None
    try:
        # What is in order is looked at by the decoder alone.
        event = read_event_as(_event, payload)
        values = astuple(event.data)
        if not any(values[_IS_NOTHING]) and values[_IS_SOMETHING] == _NONE:
            plain_tier = values[_TIER] or ""
        values = values[:_TIER]
    except UnusableEventError:
        event = read_event_as(_any_event, payload)
        values = _checked(astuple(event.data))
    if event.specversion != "1.0":
        raise UnusableEventError("its specversion is not 1.0")
    if "" in values:
        values = _checked(values)
    if not EPOCH <= event.time < _END:
        raise UnusableEventError("its time is not between 1970 and 9998")
    return (
        event.source,
        event.id,
        event.type,
        event.subject,
        microseconds(event.time),
        *values,
        payload.decode(),
        plain_tier,
    )


def check_event(payload: bytes) -> None:
    """Go on if the ledger will take an event.

    Raises:
        UnusableEventError: If it is no event, or one that cannot be counted.
    """
    read_row(payload)


def _checked(values: tuple[Any, ...]) -> tuple[Any, ...]:
    texts, counts = values[: len(_TEXTS)], values[len(_TEXTS) :]
    for count in counts:
        # bool is an int to Python, but true is no token count.
        if count is not None and (type(count) is not int or not 0 <= count <= MAX_COUNT):
            key = _COUNTS[[each is count for each in counts].index(True)]
            raise UnusableEventError(f"its {key} is no whole number between 0 and 10^12")
    return (*[text if type(text) is str and text else None for text in texts], *counts)
