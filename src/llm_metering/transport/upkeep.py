"""What a journal's thread does now and then: make room, write what waits, sync, tell of trouble."""

from __future__ import annotations

import errno
from functools import partial
from typing import Final

from ..settings.checks import Durability
from .alarms import Alarms
from .appender import Appender
from .disk_or_memory import DiskOrMemory
from .kept import give_way
from .records import count_note
from .spool import Spool
from .writer import SEGMENT_BYTES, SegmentWriter

__all__ = ["Upkeep"]

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
WANTED_ROOM: Final = 2 * SEGMENT_BYTES


class Upkeep:
    """Looks after the records of one journal; of two who come at once, both get it done.

    Args:
        spool: The folder.
        place: Where records are.
        appender: Who lets one in there.
        durability: What a recorded event survives; see `Journal`.
        alarms: Who is told of trouble.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        place: DiskOrMemory,
        appender: Appender,
        durability: Durability,
        alarms: Alarms,
    ) -> None:
        self._spool = spool
        self._place = place
        self._appender = appender
        self._in_memory = durability == "memory"
        self._alarms = alarms
        self._bypasses_noted = 0

    def __repr__(self) -> str:
        return f"<Upkeep {self._appender!r} {self._place!r}>"

    def work(self) -> OSError | None:
        """Write what waits, and sync; returns what is in the way of that."""
        place, appender = self._place, self._appender
        if place.trouble is not None and place.trouble.errno in NO_ROOM:
            # What every sink has had is kept for a replay, and is the first to go.
            give_way(self._spool, WANTED_ROOM)
        self.tell_trouble()
        appender.prepare_to_hold()
        bypassed = appender.bypassed
        if bypassed != self._bypasses_noted:
            since, self._bypasses_noted = self._bypasses_noted, bypassed
            appender.append(count_note("bypassed", "stalled", bypassed - since))
        trouble: OSError | None = None
        before = place.writer
        try:
            # What waited goes first: who asked for a sync has recorded it before.
            appender.exclusively(place.write_what_waits)
            writer = place.writer
            opened = writer.look()
            appender.exclusively(partial(writer.prepare_sync, opened))
        except OSError as error:  # such as too many open files
            trouble = place.trouble = error
        trouble = self.sync(place.writer) or trouble
        if place.writer is not before:  # closed meanwhile, and begun anew by a late record
            trouble = self.sync(before) or trouble
        if trouble is None and len(place.held) and not self._in_memory:
            trouble = place.trouble
        self.tell_trouble()
        return trouble

    def sync(self, writer: SegmentWriter) -> OSError | None:
        """Bring to the medium what a writer has written; returns what is in the way of that."""
        # Outside the lock: an append must not wait for the medium.
        try:
            writer.sync()
        except OSError as error:
            self._place.trouble = error
            return error
        return None

    def is_done(self) -> bool:
        """Whether nothing waits for the disk any more."""
        return self._in_memory or not (len(self._place.held) + self._appender.waiting)

    def tell_trouble(self) -> None:
        """Sound what went wrong since it was last told."""
        # Never under the lock: a thread may be inside a logging handler, with that handler's
        # lock, when a finaliser makes it record and wait for ours.
        place = self._place
        error, place.trouble = place.trouble, None
        if error is not None:
            held = len(place.held) + self._appender.waiting
            self._alarms.sound(
                "disk",
                f"the journal in {self._spool.folder} cannot be written ({error});"
                f" {held} records are held in memory",
            )
        if place.dropped:
            lost = ", ".join(f"{amount} ({reason})" for reason, amount in place.dropped.items())
            self._alarms.sound("dropped", f"events were given up, for want of room: {lost}")
