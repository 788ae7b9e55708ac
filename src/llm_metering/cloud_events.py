"""An event on the wire: a CloudEvent 1.0 in structured JSON.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["CloudEvent", "dump", "format_time", "parse"]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was read from the wire."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: dict[str, Any]
    specversion: str = "1.0"


class _Written(msgspec.Struct, frozen=True, gc=False):
    """An event as it is written; the order of the fields is that on the wire."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]


def _plain(value: object) -> str | int | float:
    # msgspec takes no subclass, such as the names that some ORMs and templates hand out, or the
    # floats of numpy.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"an event holds no {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder(CloudEvent)


def dump(
    id: str, source: str, type: str, subject: str, time: datetime, data: dict[str, Any], /
) -> bytes:
    """Write an event."""
    return _encoder.encode(_Written("1.0", id, source, type, subject, format_time(time), data))


def parse(payload: bytes) -> CloudEvent:
    """Read what `dump` wrote.

    Raises:
        msgspec.DecodeError: If it is no CloudEvent.
        UnicodeDecodeError: If it is no UTF-8.
    """
    return _decoder.decode(payload)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds.

    >>> format_time(datetime(2026, 11, 21, 20, 19, 0, 123456, UTC))
    '2026-11-21T20:19:00.123Z'
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if type(moment) is datetime:
        # "2026-11-21T20:19:00.123456Z" with its quotes, in an eighth of the time of `isoformat`; a
        # whole second, which is what most providers tell, without a fraction.
        text = _encoder.encode(moment)
        return text[1:24].decode() + "Z" if moment.microsecond else text[1:20].decode() + ".000Z"
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
