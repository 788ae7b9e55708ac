"""Reading events back from their wire form, for the sinks that look inside."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol, TypeVar

import msgspec

from ..errors import MeteringError
from ..events import CloudEvent

__all__ = ["UnusableEventError", "read_event", "read_event_as"]

_cloud_event: Final = msgspec.json.Decoder(CloudEvent)


class UnusableEventError(MeteringError, ValueError):
    """An event that no sink of ours will ever take; the message holds nothing of its content."""


class _Identity(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def time(self) -> datetime: ...


EventT = TypeVar("EventT", bound=_Identity)


def read_event(payload: bytes) -> CloudEvent:
    """Read a CloudEvent that has an identity, a payer and a time.

    Raises:
        UnusableEventError: If it lacks one of them or is no CloudEvent at all.
    """
    return read_event_as(_cloud_event, payload)


def read_event_as(decoder: msgspec.json.Decoder[EventT], payload: bytes) -> EventT:
    """`read_event`, of what a sink needs.

    Args:
        decoder: What reads it.
        payload: The event.

    Raises:
        UnusableEventError: As `read_event` does.
    """
    try:
        event = decoder.decode(payload)
        if not payload.isascii():
            payload.decode()  # what was passed over may hold what is no text
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Both name positions and types, never values.
        raise UnusableEventError(f"no CloudEvent: {error}") from None
    except RecursionError:
        raise UnusableEventError("no CloudEvent: nested too deeply") from None
    if not (event.id and event.source and event.type and event.subject):
        for attribute in ("id", "source", "type", "subject"):
            if not getattr(event, attribute):
                raise UnusableEventError(f"its {attribute} is empty")
    if event.time.tzinfo is None:
        raise UnusableEventError("its time names no zone")
    return event
