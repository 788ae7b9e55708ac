"""The journal: what was recorded is in a file before the caller goes on.

One `write` to this process's own segment is all that happens on the calling thread. The page
cache survives the process, so a killed one loses nothing; a background thread syncs the file,
so that a power cut takes at most the last second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from .. import system
from ..handoff import SimpleQueue
from .frames import Kind, encode_frame
from .spool import Debt, SegmentName, Spool
from .writer import SEGMENT_BYTES, OwnSegment, SegmentWriter

__all__ = ["Journal"]

logger = logging.getLogger("llm_metering")

SYNC_EVERY: Final = 0.5
"""Seconds from the first unsynced write to the sync."""
HELD_LIMIT: Final = 10_000
"""Records kept in memory while the disk takes none."""
DISK_RETRY_EVERY: Final = 1.0
LOG_EVERY: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Record:
    kind: Kind
    frame: bytes
    event_id: str


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
    """

    def __init__(
        self,
        spool: Spool,
        *,
        source: str,
        debts: Sequence[Debt],
        on_append: Callable[[int], None] = lambda _: None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._spool = spool
        self._on_append = on_append
        self._new_writer = partial(
            SegmentWriter, spool, source=source, debts=debts, segment_bytes=segment_bytes
        )
        self._begin_writer()
        system.on_fork(self)

    def _begin_writer(self) -> None:
        # An RLock lets this thread in again; `_busy` then says that it is a re-entry.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: deque[_Record] = deque()
        self._held: deque[_Record] = deque()
        self._writer = self._new_writer()
        self._open_calls: dict[str, bytes] = {}
        self._trouble: OSError | None = None
        self._next_log = 0.0
        self._closed = False
        self._syncer: threading.Thread | None = None
        self._dirty: SimpleQueue[bool] = SimpleQueue()
        self._clean = True
        self.recorded = 0
        self.dropped: Counter[str] = Counter()

    def __repr__(self) -> str:
        return (
            f"<Journal {self._writer.name} recorded={self.recorded} held={len(self._held)}"
            f" open={len(self._open_calls)}>"
        )

    @property
    def writer(self) -> str:
        """The name of this writer; a forked child has another."""
        return self._writer.name

    @property
    def held(self) -> int:
        """Records that wait in memory for the disk to take them."""
        return len(self._held)

    @property
    def expected(self) -> int:
        """Events recorded, those that wait in memory included."""
        with self._lock:
            return self.recorded + sum(record.kind is Kind.EVENT for record in self._held)

    def start(self) -> None:
        """Start the syncing thread now; else the first append does, and waits a millisecond for it."""
        with self._lock:
            self._has_syncer()

    def record(self, event_id: str, payload: bytes) -> None:
        """Append an event; when this returns it is in a file, or held in memory and counted."""
        self._append(_Record(Kind.EVENT, encode_frame(Kind.EVENT, payload), event_id))

    def note_open(self, event_id: str, payload: bytes) -> None:
        """Note that a call has started.

        Args:
            event_id: The id the call's event will have.
            payload: The event to record if this process dies before the call ends.
        """
        self._append(_Record(Kind.OPEN, encode_frame(Kind.OPEN, payload), event_id))

    def note_closed(self, event_id: str) -> None:
        """Note that a call ended for which there is no event."""
        self._append(_Record(Kind.CLOSED, encode_frame(Kind.CLOSED, event_id.encode()), event_id))

    def count(self, name: str, key: str = "", amount: int = 1) -> None:
        """Count something for `status`, so that it outlives this process.

        Args:
            name: The counter, such as `failures`.
            key: A kind of it, such as the hook that failed; never content.
            amount: How many.
        """
        payload = msgspec.json.encode({"name": name, "key": key, "amount": amount})
        self._append(_Record(Kind.COUNT, encode_frame(Kind.COUNT, payload), ""))

    def segments(self) -> list[OwnSegment]:
        """This writer's segments as they are now, oldest first."""
        with self._lock:
            return self._writer.segments()

    def forget(self, name: SegmentName) -> None:
        """Stop listing a finished segment that every sink has had."""
        with self._lock:
            self._writer.forget(name)

    def close(self) -> None:
        """Write what is held, sync, and let go; a later record begins a new writer.

        While calls are open (one has started since the table of calls was closed) the writer stays,
        and its lock with it: whoever took it for dead would settle them as interrupted.
        """
        system.notice_fork()
        writer = self._writer  # a late record may begin another one meanwhile
        self._exclusively(self._close)
        self._sync(writer)
        self._dirty.put(False)
        self._tell_trouble()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what the parent wrote is the parent's to ship."""
        self._writer.disown()
        self._begin_writer()

    def _append(self, record: _Record) -> None:
        system.notice_fork()
        with self._lock:
            self._deferred.append(record)
            if not self._busy:
                self._write_deferred()

    def _write_deferred(self) -> None:
        # The outer loop: what is deferred between the inner loop's last look and the release
        # must not wait for the next record, which may never come.
        while self._deferred:
            self._while_busy(self._write_all_deferred)

    def _write_all_deferred(self) -> None:
        while self._deferred:
            self._write(self._deferred.popleft())

    def _exclusively(self, action: Callable[[], None]) -> None:
        with self._lock:
            self._while_busy(action)
            self._write_deferred()

    def _while_busy(self, action: Callable[[], None]) -> None:
        before = self.recorded
        self._busy = True
        try:
            action()
            if self.recorded != before:  # a note is nothing to ship
                self._on_append(self.recorded)
        finally:
            self._busy = False

    def _write(self, record: _Record) -> None:
        if record.kind is Kind.OPEN:
            self._open_calls[record.event_id] = record.frame
        if self._held or not self._to_disk(record):
            self._hold(record)

    def _to_disk(self, record: _Record) -> bool:
        if self._closed:
            # Generators collected at the end of the interpreter still settle their calls.
            self._writer = self._new_writer()
            self._closed = False
        try:
            self._writer.append(record.frame, self._open_calls.values())
        except OSError as error:
            self._trouble = error
            return False
        if record.kind is Kind.EVENT:
            self.recorded += 1
        if record.kind in (Kind.EVENT, Kind.CLOSED):
            self._open_calls.pop(record.event_id, None)
        self._mark_dirty()
        return True

    def _hold(self, record: _Record) -> None:
        if len(self._held) < HELD_LIMIT:
            self._held.append(record)
            self._mark_dirty()
        elif record.kind is Kind.EVENT:
            self.dropped["disk_full"] += 1
            # Counted as dropped; its note must not make an interrupted call of it as well.
            self._open_calls.pop(record.event_id, None)

    def _mark_dirty(self) -> None:
        if self._clean and self._has_syncer():
            self._clean = False
            self._dirty.put(True)

    def _write_held(self) -> None:
        while self._held and self._to_disk(self._held[0]):
            self._held.popleft()
        if not self._held and self.dropped:
            self._report_drops()

    def _report_drops(self) -> None:
        """Write down what was lost, as soon as the disk takes it."""
        for reason in list(self.dropped):
            payload = msgspec.json.encode(
                {"name": "dropped", "key": reason, "amount": self.dropped[reason]}
            )
            if self._to_disk(_Record(Kind.COUNT, encode_frame(Kind.COUNT, payload), "")):
                del self.dropped[reason]

    def _tell_trouble(self) -> None:
        # Never under the lock: a thread may be inside a logging handler, with that handler's
        # lock, when a finaliser makes it record and wait for ours.
        now = time.monotonic()
        error, self._trouble = self._trouble, None
        if error is not None and now >= self._next_log:
            self._next_log = now + LOG_EVERY
            logger.error(
                "the journal in %s cannot be written (%s); %d records are held in memory",
                self._spool.folder,
                error,
                len(self._held),
            )

    def _has_syncer(self) -> bool:
        if self._syncer is None:
            thread = threading.Thread(target=self._sync_loop, name="llm-metering-sync", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # There are too many threads, or the interpreter is shutting down. The page
                # cache has the record, `close` syncs, and the next append tries again.
                return False
            self._syncer = thread
        return True

    def _sync_loop(self) -> None:
        while self._dirty.get() or not self._retire():
            self._tell_trouble()
            time.sleep(SYNC_EVERY)
            try:
                self._exclusively(self._prepare_sync)
            except OSError as error:  # such as too many open files
                self._trouble = error
            self._sync()
            self._tell_trouble()
            if not self._clean:
                time.sleep(DISK_RETRY_EVERY - SYNC_EVERY)
                self._dirty.put(True)

    def _retire(self) -> bool:
        """After `close`: whether the syncing thread may end."""
        with self._lock:
            if self._held or not self._dirty.empty():
                return False
            self._syncer = None
            return True

    def _prepare_sync(self) -> None:
        self._write_held()
        self._writer.prepare_sync()
        self._clean = not self._held

    def _sync(self, writer: SegmentWriter | None = None) -> None:
        # Outside the lock: an append must not wait for the medium.
        try:
            (writer or self._writer).sync()
        except OSError as error:
            self._trouble = error

    def _close(self) -> None:
        self._write_held()
        if self._open_calls:
            return
        self._writer.release()
        self._closed = True
