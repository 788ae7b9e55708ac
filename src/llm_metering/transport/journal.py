"""The journal: what was recorded is in a file before the caller goes on.

One `write` to this process's own segment is all that happens on the calling thread. The page
cache survives the process, so a killed one loses nothing; a background thread syncs the file,
so that a power cut takes at most the last second. While the disk takes nothing, or is not to be
waited for, records are held in memory, and shipped from there.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Final

from .. import system
from ..handoff import result_of
from ..mounts import is_on_local_disk
from ..settings.checks import Durability
from .alarms import Alarms
from .frames import Kind, encode_frame
from .held import HELD_LIMIT, HeldRecords
from .kept import give_way
from .late import late_notes
from .records import Record, count_note
from .spool import Debt, SegmentName, Spool
from .stalls import SLOW, STALL, Stalls
from .syncer import Syncer
from .writer import SEGMENT_BYTES, OwnSegment, SegmentWriter

__all__ = ["Journal", "nobody_waits"]

# Bound once: an enum's member costs as much to look up as a function to call.
_EVENT: Final = Kind.EVENT
_OPEN: Final = Kind.OPEN

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
WANTED_ROOM: Final = 2 * SEGMENT_BYTES
POWER_TIMEOUT: Final = 5.0
"""Seconds that a record waits for the medium; a sync takes milliseconds."""
_LOOKS_AT_ONCE: Final = 3
_LOOK_EVERY: Final = 0.0002

nobody_waits: ContextVar[bool] = ContextVar("nobody_waits", default=False)
"""Whether whoever records waits for the medium by other means."""


class Journal:
    """Appends records to this process's segments.

    Safe from any thread, from signal handlers and from finalisers: a record that arrives
    while this very thread is appending another (garbage collection may run a generator's
    `finally` inside any allocation) is queued for the append under way and never waits.

    Args:
        spool: The folder.
        source: The CloudEvents source of all events.
        debts: The sinks that each event is owed to.
        on_append: Called when events were appended, with how many there are so far.
        segment_bytes: The size at which a new segment is begun.
        durability: What a recorded event survives: the death of the `process`, a `power` cut
            (then each record waits for the medium), or nothing (`memory`: no file is written).
        alarms: Who is told of trouble.

    Attributes:
        recorded: Events taken in.
        bypassed: Records that waited in memory for a lock or a disk that stalled.
        dropped: Events given up, by reason, as far as no note on disk says so.
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
        self._on_append = on_append
        self._durability = durability
        self._alarms = Alarms() if alarms is None else alarms
        self._debts = tuple(debt.key for debt in debts)
        self._new_writer = partial(
            SegmentWriter, spool, source=source, debts=debts, segment_bytes=segment_bytes
        )
        self._begin_writer()
        system.on_fork(self)

    def _begin_writer(self) -> None:
        # An RLock lets this thread in again; `_busy_since` then says that it is a re-entry.
        self._lock = threading.RLock()
        self._busy_since = 0.0
        self._busy_by = 0
        self._deferred: deque[Record] = deque()
        self._stalls = Stalls()
        self._holding_write: system.HoldingWrite | None = None
        self._may_hold = True
        self._held = HeldRecords(self._debts, limit=HELD_LIMIT)
        self._writer = self._new_writer()
        # Since there is no disk, or since what came before waits for it.
        self._keeps_off_disk = self._durability == "memory"
        self._open_calls: dict[str, bytes] = {}
        self._trouble: OSError | None = None
        self._closed = False
        self._syncer = Syncer(self._write_and_sync, may_end=self._is_done)
        self.recorded = 0
        self.bypassed = self._bypasses_noted = 0
        self.dropped: Counter[str] = Counter()

    def __repr__(self) -> str:
        return (
            f"<Journal {self._writer.name} {self._durability} recorded={self.recorded}"
            f" held={self.held} open={len(self._open_calls)} {self._stalls!r}>"
        )

    @property
    def writer(self) -> str:
        """The name of this writer; a forked child has another."""
        return self._writer.name

    @property
    def held(self) -> int:
        """Records that are in memory, not on disk."""
        return len(self._held) + len(self._deferred)

    def expected(self, deadline: float) -> int | None:
        """Events recorded until now, all of them where the shippers find them.

        Returns:
            `None` if a disk that stalls did not let us in by the deadline.
        """
        if not self._may_enter(deadline - time.monotonic()):
            return None
        with self._lock:
            if not self._busy_since:
                self._write_deferred()
            # A disk that stalls is left to the syncing thread, which may not have come to these.
            waiting = sum(record.kind is _EVENT for record in list(self._deferred))
            return self.recorded + waiting

    def start(self) -> None:
        """Start the syncing thread now; else the first append does, and waits a millisecond for it."""
        self._syncer.start()

    def record(self, event_id: str, payload: bytes) -> None:
        """Append an event; when this returns it is in a file, or held in memory and counted."""
        waits = self._append(Record(_EVENT, encode_frame(_EVENT, payload), event_id))
        if waits and self._durability == "power" and not nobody_waits.get():
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
        self._append(Record(_OPEN, encode_frame(_OPEN, payload), event_id))

    def note_closed(self, event_id: str) -> None:
        """Note that a call ended for which there is no event."""
        self._append(_end_of(event_id))

    def count(self, name: str, key: str = "", amount: int = 1) -> None:
        """Count something for `status`, so that it outlives this process.

        Args:
            name: The counter, such as `failures`.
            key: A kind of it, such as the hook that failed; never content.
            amount: How many.
        """
        self._append(count_note(name, key, amount))

    def note_late(self, usage: Mapping[str, str | int]) -> None:
        """Note usage that was reported for a call after its event had been made.

        Args:
            usage: The event's `id`, `subject`, `run_id` and `model`, the `time`, and the counts.
        """
        for note in late_notes(usage):
            self._append(note)

    @property
    def segments_begun(self) -> int:
        """How many segments this writer has begun."""
        return self._writer.begun

    def segments(self) -> list[OwnSegment]:
        """This writer's segments as they are now, oldest first."""
        with self._lock:
            return self._writer.segments()

    def forget(self, name: SegmentName) -> None:
        """Stop listing a finished segment that every sink has had."""
        with self._lock:
            self._writer.forget(name)

    def held_for(self, debt: str) -> list[tuple[int, Record]]:
        """The events in memory that one sink has still to be sent, by number."""
        if not len(self._held):  # mostly; no lock for that
            return []
        with self._lock:
            return self._held.owed(debt)

    def settle_held(self, debt: str, outcome: Iterable[tuple[int, bool]]) -> None:
        """Note which events in memory a sink took (`True`) or will never take."""
        with self._lock:
            for event_id, opened_here in self._held.settle(debt, outcome):
                is_open = self._open_calls.pop(event_id, None) is not None
                if is_open and not opened_here:
                    # On disk that call has started, and must not become an interrupted one.
                    self._held.put(_end_of(event_id))

    def had_from_memory(self, debt: str) -> dict[str, bool]:
        """Events that one sink was sent from memory and that are on disk by now, by id.

        The values say what became of them: `True` for taken, else the sink will never take it. Who
        passes over one on disk takes it out.
        """
        return self._held.had[debt]

    def settled_from_memory(self, debt: str) -> int:
        """Events that one sink has had from memory alone."""
        return self._held.settled_for(debt)

    def held_view(self) -> HeldRecords:
        """What is in memory, for `status`."""
        return self._held

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
        if self._may_enter(deadline - time.monotonic()):
            writer = self._writer  # a late record may begin another one meanwhile
            self._exclusively(self._close)
            self._sync(writer)
        self._syncer.end()
        self._tell_trouble()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what the parent wrote is the parent's to ship."""
        self._writer.disown()
        self._begin_writer()

    def _append(self, record: Record) -> bool:
        """Append, or leave it to who is at it; returns whether that may be waited for."""
        system.notice_fork()
        self._deferred.append(record)
        if self._busy_since or self._stalls.is_stalled:
            if self._busy_by == threading.get_ident():
                return False
            if self._bypasses():
                return True
        with self._lock:
            if not self._busy_since:
                self._write_deferred()
        return not self._syncer.runs_here

    def _bypasses(self) -> bool:
        """Whether what was deferred is left to others, because the disk stalls."""
        if self._syncer.runs_here:
            return False
        if not self._stalls.is_stalled and self._may_enter(STALL):
            return False
        if not self._syncer.at_once():
            return False
        self.bypassed += 1
        if len(self._deferred) > HELD_LIMIT:
            with contextlib.suppress(IndexError):  # somebody has just written them
                if self._deferred.pop().kind is Kind.EVENT:
                    self.dropped["stalled"] += 1
        return True

    def _may_enter(self, patience: float) -> bool:
        """Whether the lock may be waited for: nobody has been writing for longer than `patience`.

        A lock cannot be waited for with a limit here: an interrupt (Ctrl-C) between its acquisition
        and the `try` behind it would leave it locked for ever. `with` has no such gap.
        """
        since = self._busy_since
        looks = 0
        while since and self._busy_since == since and self._busy_by != threading.get_ident():
            if time.monotonic() - since > patience:
                return False
            looks += 1
            # A write takes microseconds: the first looks only give way.
            time.sleep(0.0 if looks <= _LOOKS_AT_ONCE else _LOOK_EVERY)
        return True

    def _write_deferred(self) -> None:
        # The outer loop: what is deferred between the inner loop's last look and the release
        # must not wait for the next record, which may never come.
        deferred = self._deferred
        while deferred and not (self._stalls.is_stalled and self._leaves_it()):
            before = self.recorded
            self._busy_by = threading.get_ident()
            self._busy_since = began = time.monotonic()
            # What a process computes is looked at only once a write was slow: it takes a while.
            computed = time.process_time() if self._stalls.watches else 0.0
            try:
                while deferred:
                    self._write(deferred.popleft())
                    ended = time.monotonic()
                    if ended - began >= SLOW or computed:
                        computed = self._note_write(ended - began, computed, ended)
                        if self._stalls.is_stalled and self._leaves_it():
                            break
                    began = ended
                if self.recorded != before:  # a note is nothing to ship
                    self._on_append(self.recorded)
            finally:
                self._busy_since = 0.0
                self._busy_by = 0

    def _note_write(self, seconds: float, computed: float, ended: float) -> float:
        now = time.process_time()
        held = self._writer.holding_write is not None
        self._stalls.wrote(seconds, busy=now - computed if computed else 0.0, now=ended, held=held)
        if self._stalls.holds and self._may_hold:
            self._syncer.at_once()  # to find out whether it can be had
        self._hold_or_not()
        return now

    def _hold_or_not(self) -> None:
        self._writer.holding_write = self._holding_write if self._stalls.holds else None

    def _prepare_to_hold(self) -> None:
        """Get what writes without giving the interpreter's lock up, where that is safe enough.

        A local disk may stall as well, and then holds up the whole process for that one write; a
        server that does not answer would do so for minutes.
        """
        self._may_hold = False
        if is_on_local_disk(self._spool.folder):
            with contextlib.suppress(OSError, ImportError):
                self._holding_write = system.HoldingWrite()
        self._hold_or_not()

    def _leaves_it(self) -> bool:
        """Whether the rest is left to the syncing thread: this one has waited enough."""
        return not self._syncer.runs_here and self._syncer.at_once()

    def _exclusively(self, action: Callable[[], None]) -> None:
        with self._lock:
            self._while_busy(action)
            self._write_deferred()

    def _while_busy(self, action: Callable[[], None]) -> None:
        before = self.recorded
        self._busy_by = threading.get_ident()
        self._busy_since = time.monotonic()
        try:
            action()
            if self.recorded != before:  # a note is nothing to ship
                self._on_append(self.recorded)
        finally:
            self._busy_since = 0.0
            self._busy_by = 0

    def _write(self, record: Record) -> None:
        kind = record.kind
        if kind is _OPEN:
            self._open_calls[record.event_id] = record.frame
        if self._keeps_off_disk or not self._to_disk(record):
            self._hold(record)
        elif kind is _EVENT:
            self.recorded += 1

    def _to_disk(self, record: Record) -> bool:
        if self._closed:
            # Generators collected at the end of the interpreter still settle their calls.
            self._writer = self._new_writer()
            self._closed = False
        try:
            self._writer.append(record.frame, self._open_calls.values())
        except OSError as error:
            self._trouble = error
            return False
        if record.kind is not _OPEN:
            self._open_calls.pop(record.event_id, None)
        if self._syncer.is_idle:
            self._syncer.soon()
        return True

    def _hold(self, record: Record) -> None:
        in_memory = self._durability == "memory"
        if in_memory and record.kind in (Kind.OPEN, Kind.CLOSED):
            # Notes are for whoever comes after this process, who will find nothing.
            if record.kind is Kind.CLOSED:
                self._open_calls.pop(record.event_id, None)
            return
        if self._held.put(record):
            self._keeps_off_disk = True
            self.recorded += record.kind is Kind.EVENT
        elif record.kind is Kind.EVENT:
            self.dropped["memory_full" if in_memory else "disk_full"] += 1
            # Counted as dropped; its note must not make an interrupted call of it as well.
            if self._open_calls.pop(record.event_id, None) is not None:
                self._held.put(_end_of(record.event_id))
        if in_memory:
            self._open_calls.pop(record.event_id, None)
        else:
            self._syncer.soon()

    def _write_held(self) -> None:
        if self._durability == "memory":
            return
        while (oldest := self._held.oldest()) is not None:
            number, record = oldest
            if not self._to_disk(record):
                return
            self._held.written(number)
        self._keeps_off_disk = False
        for note in self._held.counted():
            if self._to_disk(note):
                self._held.noted(note)
        for reason in list(self.dropped):
            amount = self.dropped[reason]
            if self._to_disk(count_note("dropped", reason, amount)):
                self.dropped[reason] -= amount
                self.dropped += Counter()  # leaves out what is 0

    def _write_and_sync(self) -> OSError | None:
        if self._trouble is not None and self._trouble.errno in NO_ROOM:
            # What every sink has had is kept for a replay, and is the first to go.
            give_way(self._spool, WANTED_ROOM)
        self._tell_trouble()
        if self._stalls.holds and self._may_hold:
            self._prepare_to_hold()
        if self.bypassed != self._bypasses_noted:
            since, self._bypasses_noted = self._bypasses_noted, self.bypassed
            self.count("bypassed", "stalled", self.bypassed - since)
        trouble: OSError | None = None
        before = self._writer
        try:
            # What waited goes first: who asked for a sync has recorded it before.
            self._exclusively(self._write_what_waits)
            writer = self._writer
            opened = writer.look()
            self._exclusively(partial(writer.prepare_sync, opened))
        except OSError as error:  # such as too many open files
            trouble = self._trouble = error
        trouble = self._sync() or trouble
        if self._writer is not before:  # closed meanwhile, and begun anew by a late record
            trouble = self._sync(before) or trouble
        if trouble is None and len(self._held) and self._durability != "memory":
            trouble = self._trouble
        self._tell_trouble()
        return trouble

    def _write_what_waits(self) -> None:
        # Nothing in here gives the interpreter's lock up, unless something is held: who records
        # waits for it.
        if self._keeps_off_disk or any(self._held.counts.values()) or self.dropped:
            self._write_held()

    def _sync(self, writer: SegmentWriter | None = None) -> OSError | None:
        # Outside the lock: an append must not wait for the medium.
        try:
            (writer or self._writer).sync()
        except OSError as error:
            self._trouble = error
            return error
        return None

    def _is_done(self) -> bool:
        return not self.held or self._durability == "memory"

    def _close(self) -> None:
        self._write_held()
        if self._open_calls:
            return
        self._writer.release()
        self._closed = True

    def _wait_for_power(self) -> None:
        try:
            result_of(self.durable(), POWER_TIMEOUT)
        except Exception as error:  # a medium that fails, or stalls
            self.count("failures", "not_durable")
            self._alarms.sound(
                "not_durable",
                f"the medium below {self._spool.folder} does not take records"
                f" ({type(error).__name__}): a power cut may lose what is recorded now",
            )

    def _tell_trouble(self) -> None:
        # Never under the lock: a thread may be inside a logging handler, with that handler's
        # lock, when a finaliser makes it record and wait for ours.
        error, self._trouble = self._trouble, None
        if error is not None:
            self._alarms.sound(
                "disk",
                f"the journal in {self._spool.folder} cannot be written ({error});"
                f" {self.held} records are held in memory",
            )
        if self.dropped:
            lost = ", ".join(f"{amount} ({reason})" for reason, amount in self.dropped.items())
            self._alarms.sound("dropped", f"events were given up, for want of room: {lost}")


def _end_of(event_id: str) -> Record:
    """The note that a call has ended of which there will be no event on disk."""
    return Record(Kind.CLOSED, encode_frame(Kind.CLOSED, event_id.encode()), event_id)
