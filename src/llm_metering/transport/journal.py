"""The journal: what was recorded is in a file before the caller goes on.

One `write` to this process's own segment is all that happens on the calling thread. The page
cache survives the process, so a killed one loses nothing; a background thread syncs the file,
so that a power cut takes at most the last second. While the disk takes nothing, or is not to be
waited for, records are held in memory, and shipped from there.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Final

from .. import system
from ..handoff import result_of
from ..settings.checks import Durability
from .alarms import Alarms
from .appender import Appender
from .disk_or_memory import DiskOrMemory
from .frames import Kind, encode_frame
from .held import HeldRecords
from .late import late_notes
from .records import Record, closed_note, count_note
from .spool import Debt, SegmentName, Spool
from .syncer import Syncer
from .upkeep import Upkeep
from .writer import SEGMENT_BYTES, OwnSegment, SegmentWriter

__all__ = ["Journal", "nobody_waits"]

# Bound once: an enum's member costs as much to look up as a function to call.
_EVENT: Final = Kind.EVENT
_OPEN: Final = Kind.OPEN

POWER_TIMEOUT: Final = 5.0
"""Seconds that a record waits for the medium; a sync takes milliseconds."""

nobody_waits: ContextVar[bool] = ContextVar("nobody_waits", default=False)
"""Whether whoever records waits for the medium by other means."""


class Journal:
    """Appends records to this process's segments.

    Safe from any thread, from signal handlers and from finalisers.

    Args:
        spool: The folder.
        source: The CloudEvents source of all events.
        debts: The sinks that each event is owed to.
        on_append: Called when events were appended, with how many there are so far.
        segment_bytes: The size at which a new segment is begun.
        durability: What a recorded event survives: the death of the `process`, a `power` cut
            (then each record waits for the medium), or nothing (`memory`: no file is written).
        alarms: Who is told of trouble.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        source: str,
        debts: Sequence[Debt],
        on_append: Callable[[int], None] = lambda _: None,
        segment_bytes: int = SEGMENT_BYTES,
        durability: Durability = "process",
        alarms: Alarms | None = None,
    ) -> None:
        self._spool = spool
        self._durability = durability
        self._alarms = Alarms() if alarms is None else alarms
        self._place = DiskOrMemory(
            partial(SegmentWriter, spool, source=source, debts=debts, segment_bytes=segment_bytes),
            debts=[debt.key for debt in debts],
            durability=durability,
        )
        self._appender = Appender(self._place, folder=spool.folder, on_append=on_append)
        self._begin()
        system.on_fork(self)

    def _begin(self, new_syncer: type[Syncer] = Syncer) -> None:
        # The lock first: a finaliser may come in between any two of these.
        self._appender.begin()
        self._place.begin()
        self._upkeep = Upkeep(
            self._spool,
            place=self._place,
            appender=self._appender,
            durability=self._durability,
            alarms=self._alarms,
        )
        self._syncer = new_syncer(self._upkeep.work, may_end=self._upkeep.is_done)
        self._appender.syncer = self._place.syncer = self._syncer

    def __repr__(self) -> str:
        return (
            f"<Journal {self.writer} {self._durability} recorded={self.recorded}"
            f" held={self.held} open={len(self._place.open_calls)} {self._appender.stalls!r}>"
        )

    @property
    def writer(self) -> str:
        """The name of this writer; a forked child has another."""
        return self._place.writer.name

    @property
    def durability(self) -> Durability:
        """What a recorded event survives."""
        return self._durability

    @property
    def recorded(self) -> int:
        """Events taken in."""
        return self._appender.recorded

    @property
    def held(self) -> int:
        """Records that are in memory, not on disk."""
        return len(self._place.held) + self._appender.waiting

    @property
    def bypassed(self) -> int:
        """Records that waited in memory for a lock or a disk that stalled."""
        return self._appender.bypassed

    @property
    def dropped(self) -> Counter[str]:
        """Events given up, by reason, as far as no note on disk says so."""
        return self._place.dropped

    def expected(self, deadline: float) -> int | None:
        """Events recorded until now, all of them where the shippers find them.

        Returns:
            `None` if a disk that stalls did not let us in by the deadline.
        """
        return self._appender.expected(deadline)

    def start(self) -> None:
        """Start the syncing thread now; else the first append does, and waits a millisecond for it."""
        self._syncer.start()

    def record(self, event_id: str, payload: bytes) -> None:
        """Append an event; when this returns it is in a file, or held in memory and counted."""
        may_wait = self._appender.append(Record(_EVENT, encode_frame(_EVENT, payload), event_id))
        if may_wait and self._durability == "power" and not nobody_waits.get():
            self._wait_for_power()

    def durable(self) -> Future[None]:
        """What was recorded before is on the medium when this is done.

        Its exception, if it has one, says why it is not.
        """
        return self._syncer.durable()

    def note_open(self, event_id: str, payload: bytes) -> None:
        """Note that a call has started.

        Args:
            event_id: The id the call's event will have.
            payload: The event to record if this process dies before the call ends.
        """
        self._appender.append(Record(_OPEN, encode_frame(_OPEN, payload), event_id))

    def note_closed(self, event_id: str) -> None:
        """Note that a call ended for which there is no event."""
        self._appender.append(closed_note(event_id))

    def count(self, name: str, key: str = "", amount: int = 1) -> None:
        """Count something for `status`, so that it outlives this process.

        Args:
            name: The counter, such as `failures`.
            key: A kind of it, such as the hook that failed; never content.
            amount: How many.
        """
        self._appender.append(count_note(name, key, amount))

    def note_late(self, usage: Mapping[str, str | int]) -> None:
        """Note usage that was reported for a call after its event had been made.

        Args:
            usage: The event's `id`, `subject`, `run_id` and `model`, the `time`, and the counts.
        """
        for note in late_notes(usage):
            self._appender.append(note)

    @property
    def segments_begun(self) -> int:
        """How many segments this writer has begun."""
        return self._place.writer.begun

    def segments(self) -> list[OwnSegment]:
        """This writer's segments as they are now, oldest first."""
        with self._appender.lock:
            return self._place.writer.segments()

    def forget(self, name: SegmentName) -> None:
        """Stop listing a finished segment that every sink has had."""
        with self._appender.lock:
            self._place.writer.forget(name)

    def held_for(self, debt: str) -> list[tuple[int, Record]]:
        """The events in memory that one sink has still to be sent, by number."""
        if not len(self._place.held):  # mostly; no lock for that
            return []
        with self._appender.lock:
            return self._place.held.owed(debt)

    def settle_held(self, debt: str, outcome: Iterable[tuple[int, str, bool]]) -> None:
        """Note which events in memory a sink took (`True`) or will never take."""
        with self._appender.lock:
            self._place.settle_held(debt, outcome)

    def had_from_memory(self, debt: str) -> dict[str, bool]:
        """Events that one sink was sent from memory and that are on disk by now, by id.

        The values say what became of them: `True` for taken, else the sink will never take it. Who
        passes over one on disk takes it out.
        """
        return self._place.held.had[debt]

    def settled_from_memory(self, debt: str) -> int:
        """Events that one sink has had from memory alone."""
        return self._place.held.settled_for(debt)

    def held_view(self) -> HeldRecords:
        """What is in memory, for `status`."""
        return self._place.held

    def close(self, deadline: float = float("inf")) -> None:
        """Write what is held, sync, and let go; a later record begins a new writer.

        While calls are open (one has started since the table of calls was closed) the writer stays,
        and its lock with it: whoever took it for dead would settle them as interrupted.

        Args:
            deadline: Of `time.monotonic`: a disk that stalls is not waited for longer.
        """
        system.notice_fork()
        # Its exception is told of as an alarm.
        with contextlib.suppress(Exception):
            result_of(self.durable(), max(deadline - time.monotonic(), 0.0))
        if self._appender.may_enter(deadline - time.monotonic()):
            writer = self._place.writer  # a late record may begin another one meanwhile
            self._appender.exclusively(self._place.close)
            self._upkeep.sync(writer)
        self._syncer.end()
        self._upkeep.tell_trouble()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what the parent wrote is the parent's to ship."""
        self._place.writer.disown()
        self._begin()

    def _wait_for_power(self) -> None:
        if self._syncer.runs_here:
            return  # it would wait for itself
        try:
            result_of(self.durable(), POWER_TIMEOUT)
        except Exception as error:  # a medium that fails, or stalls
            self.count("failures", "not_durable")
            self._alarms.sound(
                "not_durable",
                f"the medium below {self._spool.folder} does not take records"
                f" ({type(error).__name__}): a power cut may lose what is recorded now",
            )
