"""Reading events back from their wire form, for the sinks that look inside."""

from __future__ import annotations

import msgspec

from ..errors import MeteringError
from ..events import CloudEvent, parse

__all__ = ["UnusableEventError", "read_event"]


class UnusableEventError(MeteringError, ValueError):
    """An event that no sink of ours will ever take; the message holds nothing of its content."""


def read_event(payload: bytes) -> CloudEvent:
    """Read a CloudEvent that has an identity, a payer and a time.

    Raises:
        UnusableEventError: If it lacks one of them or is no CloudEvent at all.
    """
    try:
        event = parse(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Both name positions and types, never values.
        raise UnusableEventError(f"no CloudEvent: {error}") from None
    except RecursionError:
        raise UnusableEventError("no CloudEvent: nested too deeply") from None
    for attribute in ("id", "source", "type", "subject"):
        if not getattr(event, attribute):
            raise UnusableEventError(f"its {attribute} is empty")
    if event.time.tzinfo is None:
        raise UnusableEventError("its time names no zone")
    return event
