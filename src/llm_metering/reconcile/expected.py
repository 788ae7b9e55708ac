"""What a server should hold: the wire events of each recorded event, as OpenMeter lists them.

Source: `openmeter/ingest/kafkaingest/serializer/serializer.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c: of the time
whole seconds are kept; `data` is read and written again by Go's `encoding/json`, in which a number
is a float64; `source` is a URL that Go's `net/url` writes, with the scheme in small letters and
whatever needs it escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ..sinks._payload import UnusableEventError, read_event
from ..sinks.openmeter import OpenMeterSink

__all__ = ["TOKENS", "WireEvent", "as_server_writes", "is_same_data", "number_of", "wire_events"]

TOKENS: Final[Mapping[str, str]] = {
    "call": "total_tokens",
    "kind": "tokens",
    "openai": "total_tokens",
    "litellm": "total_tokens",
}
"""By shape: the property that a bill is the sum of."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")


class WireEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as it is sent, with what it was made of.

    Attributes:
        record: The id of the recorded event.
        id: Its own id.
        source: As it was sent.
        type: As it was sent.
        subject: As it was sent.
        time: Whole seconds since 1970.
        data: As it was sent.
        body: All of it, as it was sent.
    """

    record: str
    id: str
    source: str
    type: str
    subject: str
    time: int
    data: dict[str, Any]
    body: bytes


class _Read(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: dict[str, Any]


_read: Final = msgspec.json.Decoder(_Read)


def wire_events(sink: OpenMeterSink, record: str, payload: bytes) -> list[WireEvent]:
    """What is sent for a recorded event.

    Args:
        sink: Which sends it.
        record: The event's id.
        payload: The event, as ledger and journal hold it.

    Raises:
        UnusableEventError: If the sink does not send it; the message holds nothing of its content.
    """
    found = []
    for body in sink.wire_events(payload):
        try:
            event = _read.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            read_event(payload)
            raise UnusableEventError(f"no CloudEvent: {type(error).__name__}") from None
        if event.time.tzinfo is None:
            raise UnusableEventError("its time names no zone")
        found.append(
            WireEvent(
                record=record,
                id=event.id,
                source=event.source,
                type=event.type,
                subject=event.subject,
                time=int(event.time.timestamp() // 1),
                data=event.data,
                body=body,
            )
        )
    return found


def as_server_writes(source: str) -> str:
    """A source in a form in which ours and the server's way to write it are the same.

    >>> as_server_writes("HTTPS://shop.example/a b") == as_server_writes("https://shop.example/a%20b")
    True
    """
    scheme = _SCHEME.match(source)
    if scheme is not None:
        source = scheme.group().lower() + source[scheme.end() :]
    return unquote(source)


def is_same_data(sent: object, listed: object) -> bool:
    """Whether what is listed is what was sent, apart from what a float64 cannot tell apart.

    >>> is_same_data({"a": 2**53 + 1}, {"a": 2.0**53}), is_same_data({"a": 1}, {"a": True})
    (True, False)
    """
    # What most values are comes first: this is asked of each value of each event.
    if isinstance(sent, str):
        return sent == listed
    if isinstance(sent, dict) and isinstance(listed, dict):
        return sent.keys() == listed.keys() and all(
            is_same_data(value, listed[key]) for key, value in sent.items()
        )
    if isinstance(sent, list) and isinstance(listed, list):
        return len(sent) == len(listed) and all(map(is_same_data, sent, listed))
    if isinstance(sent, bool) or isinstance(listed, bool):
        return sent is listed
    if isinstance(sent, int | float) and isinstance(listed, int | float):
        return sent == listed or _as_float(sent) == _as_float(listed)
    return sent == listed


def number_of(value: object) -> Decimal | None:
    """What a SUM meter adds for a value: a number, or a text that is one; `None` adds nothing.

    >>> number_of(7), number_of("7.5"), number_of("many"), number_of(None)
    (Decimal('7'), Decimal('7.5'), None, None)
    """
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(value if isinstance(value, int) else repr(value))
    return number if number.is_finite() else None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")
