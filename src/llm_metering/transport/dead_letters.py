"""Events a sink will never take, kept for a person to look at."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from ..events import format_time
from ..sinks.base import Delivery, Envelope
from . import system
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


def write_dead_letters(
    spool: Spool, debt: Debt, batch: Sequence[Envelope], delivery: Delivery
) -> None:
    """Append what `delivery` rejected, synced, before it is acknowledged as dead.

    Raises:
        OSError: If it cannot be written; the events then stay pending.
    """
    reasons = dict(delivery.rejected)
    now = format_time(datetime.now(UTC))
    lines = [
        msgspec.json.encode(
            DeadLetter(now, debt.name, reasons[envelope.id], msgspec.Raw(envelope.payload))
        )
        for envelope in batch
        if envelope.id in reasons
    ]
    path = spool.dead_letters_path(debt.key)
    system.make_private_folder(path.parent)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, system.PRIVATE_FILE)
    try:
        size = os.fstat(descriptor).st_size
        # A line that did not fit whole must not spoil the next one.
        torn = size > 0 and system.read_at(descriptor, 1, size - 1) != b"\n"
        content = b"\n" * torn + b"\n".join(lines) + b"\n"
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        system.sync_data(descriptor)
    finally:
        os.close(descriptor)
