"""What a journal is told: events, and the notes beside them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .frames import HEAD_SIZE, Kind, encode_frame

__all__ = ["Record", "closed_note", "count_note"]


# A Struct: one is made for each record, and a frozen dataclass takes several times as long to make.
class Record(msgspec.Struct, frozen=True, gc=False):
    """A record on its way into a segment.

    Attributes:
        kind: What it is.
        frame: Framed, as it will be on disk.
        event_id: The event, or the call, that it speaks of; empty for a count.
        note: Of a count, the counter's name, its key and the amount.
    """

    kind: Kind
    frame: bytes
    event_id: str = ""
    note: tuple[str, str, int] | None = None

    @property
    def payload(self) -> bytes:
        """What is in the frame."""
        return self.frame[HEAD_SIZE:]


def count_note(
    name: str, key: str, amount: int, *, detail: Mapping[str, str | int] | None = None
) -> Record:
    """The record that counts something for `status`.

    Args:
        name: The counter.
        key: A kind of it.
        amount: How many.
        detail: What else there is to be listed; it is on disk alone.
    """
    note: dict[str, object] = {"name": name, "key": key, "amount": amount}
    if detail is not None:
        note["detail"] = detail
    payload = msgspec.json.encode(note)
    return Record(Kind.COUNT, encode_frame(Kind.COUNT, payload), note=(name, key, amount))


def closed_note(event_id: str) -> Record:
    """The note that a call has ended of which there will be no event on disk."""
    return Record(Kind.CLOSED, encode_frame(Kind.CLOSED, event_id.encode()), event_id)
