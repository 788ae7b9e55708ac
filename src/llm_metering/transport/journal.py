"""The journal: what was recorded is in a file before the caller goes on.

One `write` to this process's own segment is all that happens on the calling thread. The page
cache survives the process, so a killed one loses nothing; a background thread syncs the file,
so that a power cut takes at most the last second.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Final

import msgspec

from ..errors import HomeError
from ..events import format_time, new_event_id
from . import system
from .frames import Kind, encode_frame
from .spool import Debt, SegmentName, Spool, make_header

__all__ = ["Journal", "OwnSegment"]

logger = logging.getLogger("llm_metering")

SEGMENT_BYTES: Final = 8 << 20
"""A segment is deleted whole, so it must not grow for ever."""
SYNC_EVERY: Final = 0.5
"""Seconds from the first unsynced write to the sync."""
HELD_LIMIT: Final = 10_000
"""Records kept in memory while the disk takes none."""
DISK_RETRY_EVERY: Final = 1.0
LOG_EVERY: Final = 60.0


@dataclass(slots=True)
class OwnSegment:
    """A segment of this journal.

    Attributes:
        name: Its name.
        size: Bytes of whole frames in it.
        finished: Nothing more will be appended.
    """

    name: SegmentName
    size: int
    finished: bool = False


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
        self._source = source
        self._debts = tuple(debts)
        self._on_append = on_append
        self._segment_bytes = segment_bytes
        self._begin_writer()
        system.on_fork(self)

    def _begin_writer(self) -> None:
        # An RLock lets this thread in again; `_busy` then says that it is a re-entry.
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: deque[_Record] = deque()
        self._held: deque[_Record] = deque()
        self._writer = new_event_id()
        self._lock_descriptor: int | None = None
        self._descriptor: int | None = None
        self._unsynced: deque[int] = deque()
        self._segments: list[OwnSegment] = []
        self._rotate_at = 0
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
            f"<Journal {self._writer} recorded={self.recorded} held={len(self._held)}"
            f" open={len(self._open_calls)}>"
        )

    @property
    def writer(self) -> str:
        """The name of this writer; a forked child has another."""
        return self._writer

    @property
    def held(self) -> int:
        """Records that wait in memory for the disk to take them."""
        return len(self._held)

    @property
    def expected(self) -> int:
        """Events recorded, those that wait in memory included."""
        with self._lock:
            return self.recorded + sum(record.kind is Kind.EVENT for record in self._held)

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
            return [OwnSegment(s.name, s.size, s.finished) for s in self._segments]

    def forget(self, name: SegmentName) -> None:
        """Stop listing a finished segment that every sink has had."""
        with self._lock:
            self._segments = [s for s in self._segments if s.name != name or not s.finished]

    def close(self) -> None:
        """Write what is held, sync, and let go; a later record begins a new writer.

        While calls are open (one has started since the table of calls was closed) the writer stays,
        and its lock with it: whoever took it for dead would settle them as interrupted.
        """
        system.notice_fork()
        self._exclusively(self._close)
        self._sync()
        self._dirty.put(False)
        self._tell_trouble()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what the parent wrote is the parent's to ship."""
        for descriptor in (self._descriptor, self._lock_descriptor, *self._unsynced):
            if descriptor is not None:
                # Closing does not unlock: the parent's opening of the file holds the lock. The
                # fork may have come between the parent's own closing and its noting it.
                with contextlib.suppress(OSError):
                    os.close(descriptor)
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
        try:
            # The second try is in a new segment: a limit on the size of files (RLIMIT_FSIZE)
            # stops this one, and not the next.
            if not self._write_frame(record.frame):
                self._begin_segment()
                if not self._write_frame(record.frame):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except OSError as error:
            self._trouble = error
            return False
        if record.kind is Kind.EVENT:
            self.recorded += 1
        if record.kind in (Kind.EVENT, Kind.CLOSED):
            self._open_calls.pop(record.event_id, None)
        self._mark_dirty()
        return True

    def _write_frame(self, frame: bytes) -> bool:
        """Append a frame whole, or not at all; returns whether there was room."""
        segment = self._current()
        assert self._descriptor is not None
        try:
            written = os.write(self._descriptor, frame)
        except OSError as error:
            if error.errno == errno.EFBIG:
                return False
            raise
        except BaseException:
            # A signal's exception (Ctrl-C) right behind the write: what is in the file counts.
            segment.size = os.fstat(self._descriptor).st_size
            raise
        if written < len(frame):
            system.truncate(self._descriptor, segment.size)
            return False
        segment.size += written
        return True

    def _current(self) -> OwnSegment:
        if self._closed:
            self._begin_writer_after_close()
        if self._descriptor is not None and self._segments[-1].size < self._rotate_at:
            return self._segments[-1]
        return self._begin_segment()

    def _begin_writer_after_close(self) -> None:
        # Generators collected at the end of the interpreter still settle their calls.
        self._writer = new_event_id()
        self._segments = []
        self._closed = False

    def _begin_segment(self) -> OwnSegment:
        if self._lock_descriptor is None:
            self._spool.make()
            self._lock_descriptor = system.lock_file(self._spool.lock_path(self._writer))
            if self._lock_descriptor is None:
                raise HomeError(f"{self._spool.folder} does not support file locks (flock)")
        number = self._segments[-1].name.number + 1 if self._segments else 0
        name = SegmentName(self._writer, number)
        header = make_header(
            writer=self._writer,
            source=self._source,
            debts=self._debts,
            created=format_time(datetime.now(UTC)),
        )
        # The notes of calls under way are carried along, so that the old segment can go; not
        # before they are in the new one, or a crash between the two would lose those calls.
        start = header.frame() + b"".join(self._open_calls.values())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = self._spool.segment_path(name)
        descriptor = os.open(path, flags, system.PRIVATE_FILE)
        try:
            if os.write(descriptor, start) < len(start):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        self._finish_segment()
        self._descriptor = descriptor
        segment = OwnSegment(name, len(start))
        # What was carried along does not count: with very many open calls each new segment
        # would be full from its start.
        self._rotate_at = len(start) + self._segment_bytes
        self._segments.append(segment)
        return segment

    def _finish_segment(self) -> None:
        if self._descriptor is None:
            return
        # Left to the syncing thread: a sync takes milliseconds.
        self._unsynced.append(self._descriptor)
        self._descriptor = None
        self._segments[-1].finished = True

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
        if self._descriptor is not None:
            self._unsynced.append(os.dup(self._descriptor))
        self._clean = not self._held

    def _sync(self) -> None:
        # Outside the lock: an append must not wait for the medium.
        while True:
            try:
                descriptor = self._unsynced.popleft()
            except IndexError:  # `close` and the syncing thread may both be at it
                return
            try:
                system.sync_data(descriptor)
            except OSError as error:
                self._trouble = error
            finally:
                os.close(descriptor)

    def _close(self) -> None:
        self._write_held()
        if self._open_calls:
            return
        self._finish_segment()
        if self._lock_descriptor is not None:
            # No call of ours is open: whoever takes over has nothing to settle.
            with contextlib.suppress(OSError):  # else the next process finds out by itself
                lock = self._spool.lock_path(self._writer)
                lock.rename(self._spool.dead_mark(self._writer))
            system.unlock_file(self._lock_descriptor)
            self._lock_descriptor = None
        self._closed = True
