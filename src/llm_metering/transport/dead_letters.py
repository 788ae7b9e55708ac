"""Events a sink will never take, kept for a person to look at."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .. import system
from ..events import format_time
from ..sinks.base import Delivery, Envelope
from .spool import Debt, Spool

__all__ = ["DeadLetter", "write_dead_letters"]


class DeadLetter(msgspec.Struct, frozen=True):
    """A rejected event.

    Attributes:
        time: When it was rejected, in RFC 3339.
        sink: The sink's name.
        reason: What the sink said.
        event: The CloudEvent.
    """

    time: str
    sink: str
    reason: str
    event: msgspec.Raw


class _Identified(msgspec.Struct, frozen=True):
    id: str
    source: str = ""


class _Written(msgspec.Struct):
    event: _Identified


_identified = msgspec.json.Decoder(_Identified)
_written = msgspec.json.Decoder(_Written)


def write_dead_letters(
    spool: Spool, debt: Debt, batch: Sequence[Envelope], delivery: Delivery
) -> None:
    """Append what `delivery` rejected, synced, before it is acknowledged as dead.

    An event that is in the file already is not written again: a process may have died between
    writing and acknowledging.

    Raises:
        OSError: If it cannot be written; the events then stay pending.
    """
    reasons = dict(delivery.rejected)
    path = spool.dead_letters_path(debt.key)
    system.make_private_folder(path.parent)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, system.PRIVATE_FILE)
    try:
        dead = {_identity(each): each for each in batch if each.id in reasons}
        for written in _found_in(path, dead):
            del dead[written]
        content = _lines(debt, dead.values(), reasons)
        size = os.fstat(descriptor).st_size
        # A line that did not fit whole must not spoil the next one.
        torn = size > 0 and system.read_at(descriptor, 1, size - 1) != b"\n"
        if content:
            content = b"\n" * torn + content
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # Even if there was nothing to write: who wrote it may have died before it was synced.
        system.sync_data(descriptor)
    finally:
        os.close(descriptor)


def _identity(envelope: Envelope) -> _Identified:
    try:
        return _identified.decode(envelope.payload)
    except msgspec.DecodeError:
        return _Identified(envelope.id)


def _lines(debt: Debt, dead: Iterable[Envelope], reasons: Mapping[str, str]) -> bytes:
    now = format_time(datetime.now(UTC))
    letters = (
        DeadLetter(now, debt.name, reasons[each.id], msgspec.Raw(each.payload)) for each in dead
    )
    return b"".join(msgspec.json.encode(letter) + b"\n" for letter in letters)


def _found_in(path: Path, wanted: Collection[_Identified]) -> set[_Identified]:
    """Those of the events that the file holds."""
    # The whole file, since a place may have been lost long after it was written. Deaths are rare,
    # and a line takes a microsecond.
    found: set[_Identified] = set()
    with path.open("rb") as file:
        for line in file:
            try:
                event = _written.decode(line).event
            except msgspec.DecodeError:
                continue  # a torn line, or an event that was put back: no letter
            if event in wanted:
                found.add(event)
    return found
