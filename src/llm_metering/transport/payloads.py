"""What is inside a record: one reading of it for all who look, which never raises.

A frame whose checksum holds was written as it stands, and may all the same be no event: a bug, or
another program. All who read segments have to agree on which frames are events. If one took for an
event what another passes over, the counts would not add up; if one raised, it would for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec

from ..sinks.base import Envelope
from .frames import Frame

__all__ = [
    "Item",
    "Note",
    "event_flags",
    "event_id",
    "event_time",
    "read_closed",
    "read_events",
    "read_note",
]


class Note(msgspec.Struct):
    """Something counted: so many of a key, under a name."""

    name: str
    key: str
    amount: int


class Item(Envelope, frozen=True, gc=False):
    """An event as a sink is given it, and its place.

    Attributes:
        end: Where the next frame begins.
    """

    end: int


class _Identified(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]


class _Timed(msgspec.Struct):
    time: datetime


class _Data(msgspec.Struct):
    flags: list[str] = msgspec.field(default_factory=list)


class _Flagged(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


_identified = msgspec.json.Decoder(_Identified)
_timed = msgspec.json.Decoder(_Timed)
_flagged = msgspec.json.Decoder(_Flagged)
_note = msgspec.json.Decoder(Note)

# What msgspec raises: its own errors and the codec's are ValueErrors; nesting has no end.
_UNREADABLE: Final = (ValueError, RecursionError)


def event_id(payload: bytes) -> str | None:
    """The id of an event; `None` says that this is no event: no JSON object, or without an id."""
    try:
        return _identified.decode(payload).id
    except _UNREADABLE:
        return None


def read_events(frames: Sequence[Frame]) -> list[Item]:
    """The events in frames that should hold one; the others are left out."""
    decode = _identified.decode
    try:
        # All of them without a step that is not needed, since a drain does little else.
        return [Item(decode(frame.payload).id, frame.payload, frame.end) for frame in frames]
    except _UNREADABLE:
        named = [(event_id(frame.payload), frame) for frame in frames]
        return [Item(each, frame.payload, frame.end) for each, frame in named if each is not None]


def event_time(payload: bytes) -> datetime | None:
    """When an event was; `None` if it does not say so, or names no time zone."""
    try:
        time = _timed.decode(payload).time
    except _UNREADABLE:
        return None
    return time if time.tzinfo is not None else None


def event_flags(payload: bytes) -> list[str]:
    """The flags of an event; none, if it has none that can be read."""
    try:
        return _flagged.decode(payload).data.flags
    except _UNREADABLE:
        return []


def read_note(payload: bytes) -> Note | None:
    """A counted note; `None` if it is none."""
    try:
        return _note.decode(payload)
    except _UNREADABLE:
        return None


def read_closed(payload: bytes) -> str | None:
    """The id in the note of a call that ended without an event; `None` if it is none."""
    try:
        return payload.decode() or None
    except UnicodeDecodeError:
        return None
