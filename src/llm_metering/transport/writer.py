"""A writer's own segments: made, appended to, rotated, synced and let go."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .. import system
from ..errors import HomeError
from ..events import format_time, new_event_id
from .spool import Debt, SegmentName, Spool, make_header

__all__ = ["Opened", "OwnSegment", "SegmentWriter"]

SEGMENT_BYTES: Final = 8 << 20
"""A segment is deleted whole, so it must not grow for ever."""
SEGMENT_SECONDS: Final = 3600.0
"""Nor live for ever, where little is recorded."""


@dataclass(slots=True)
class OwnSegment:
    """A segment of this writer.

    Attributes:
        name: Its name.
        size: Bytes of whole frames in it.
        finished: Nothing more will be appended.
    """

    name: SegmentName
    size: int
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment that was opened once more.

    Attributes:
        original: The descriptor that is written to.
        copy: The new one.
        is_deleted: Whether somebody has deleted the file.
    """

    original: int
    copy: int
    is_deleted: bool


class SegmentWriter:
    """Appends frames to segments of its own, under a lock that says that it lives.

    Not safe from several threads: the journal sees to it that one is in here at a time.

    Args:
        spool: The folder.
        source: The CloudEvents source of all events.
        debts: The sinks that each event is owed to.
        segment_bytes: The size at which a new segment is begun.

    Attributes:
        holding_write: What writes, if the interpreter's lock is to be kept meanwhile.
    """

    def __init__(
        self, spool: Spool, *, source: str, debts: Sequence[Debt], segment_bytes: int
    ) -> None:
        self.name = new_event_id()
        self._spool = spool
        self._source = source
        self._debts = tuple(debts)
        self._segment_bytes = segment_bytes
        self._lock: int | None = None
        self._descriptor: int | None = None
        self._unsynced: deque[int] = deque()
        self._segments: list[OwnSegment] = []
        self.holding_write: system.HoldingWrite | None = None
        self._prepared: tuple[SegmentName, int] | None = None
        self._next_number = 0
        self._rotate_at = 0
        self._begun_at = 0.0

    @property
    def begun(self) -> int:
        """How many segments were begun."""
        return self._next_number

    def segments(self) -> list[OwnSegment]:
        """The segments as they are now, oldest first."""
        return [OwnSegment(s.name, s.size, s.finished) for s in self._segments]

    def forget(self, name: SegmentName) -> None:
        """Stop listing a finished segment that every sink has had."""
        self._segments = [s for s in self._segments if s.name != name or not s.finished]

    def append(self, frame: bytes, carried: Iterable[bytes]) -> None:
        """Append a frame, whole or not at all.

        Args:
            frame: What is appended.
            carried: The frames that a new segment begins with: the notes of open calls.

        Raises:
            OSError: If the disk does not take it.
        """
        if self._descriptor is None or self._segments[-1].size >= self._rotate_at:
            self._begin_segment(carried)
        if self._write(frame):
            return
        # A limit on the size of files (RLIMIT_FSIZE) stops this segment, and not the next.
        self._begin_segment(carried)
        if not self._write(frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self) -> None:
        """End the present segment; it is synced later, since a sync takes milliseconds."""
        if self._descriptor is None:
            return
        self._unsynced.append(self._descriptor)
        self._descriptor = None
        self._segments[-1].finished = True

    def look(self) -> Opened | None:
        """Open the present segment once more, to be synced; `None` if there is nothing to sync.

        May be called beside an append: what the system is asked here gives the interpreter's lock
        up, and who records must not wait until it comes back.

        Raises:
            OSError: If there are too many open files.
        """
        original = self._descriptor
        if original is None or (self._segments[-1].name, self._segments[-1].size) == self._prepared:
            return None
        copy = os.dup(original)
        return Opened(original, copy, is_deleted=os.fstat(copy).st_nlink == 0)

    def prepare_sync(self, opened: Opened | None) -> None:
        """Note how far the next `sync` is to go.

        Args:
            opened: What `look` returned; if another segment was begun meanwhile, this one is to be
                synced all the same.

        Raises:
            OSError: If the segment was deleted: it is there again then, and the next append begins
                another one.
        """
        if self._descriptor is not None and time.monotonic() - self._begun_at > SEGMENT_SECONDS:
            self._rotate_at = 0  # the next append begins another one
        if opened is None:
            return
        self._unsynced.append(opened.copy)
        if self._descriptor != opened.original:
            return
        if opened.is_deleted:
            self._restore()
            raise FileNotFoundError(
                errno.ENOENT, "somebody deleted the home of a living process; it is made anew"
            )
        self._prepared = (self._segments[-1].name, self._segments[-1].size)

    def sync(self) -> None:
        """Bring to the medium what `prepare_sync` or `finish` noted; safe beside an append.

        Raises:
            OSError: If the medium fails; what else there was to sync is still synced.
        """
        trouble: OSError | None = None
        while True:
            try:
                descriptor = self._unsynced.popleft()
            except IndexError:  # `close` and the syncing thread may both be at it
                break
            try:
                system.sync_data(descriptor)
            except OSError as error:
                trouble = error
                # The kernel may have dropped the bytes and tells of it once: another sync of this
                # file would prove nothing.
                self._prepared = None
                self._rotate_at = 0
            finally:
                os.close(descriptor)
        if trouble is not None:
            raise trouble

    def release(self) -> None:
        """Give up the lock, saying that no call is open: there is nothing to settle for others."""
        self.finish()
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # else the next process finds out by itself
            self._spool.lock_path(self.name).rename(self._spool.dead_mark(self.name))
        system.unlock_file(self._lock)
        self._lock = None

    def disown(self) -> None:
        """In a forked child: close what is the parent's, and leave its lock to it."""
        for descriptor in (self._descriptor, self._lock, *self._unsynced):
            if descriptor is not None:
                # Closing does not unlock: the parent's opening of the file holds the lock. The
                # fork may have come between the parent's own closing and its noting it.
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _write(self, frame: bytes) -> bool:
        """Write a frame; returns whether there was room for it in this segment."""
        segment = self._segments[-1]
        assert self._descriptor is not None
        try:
            written = (self.holding_write or os.write)(self._descriptor, frame)
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

    def _restore(self) -> None:
        """Put back what somebody deleted under us, as far as we have it open."""
        # What was acknowledged went with the acknowledgements: all of it will be sent again, under
        # the same ids. Whoever has the deleted file open reads it to its end, and then the next one.
        assert self._descriptor is not None
        segment = self._segments[-1]
        content = system.read_at(self._descriptor, segment.size, 0)
        self._spool.make()
        lock = system.lock_file(self._spool.lock_path(self.name))
        if lock is not None:  # else it alone is still there
            if self._lock is not None:
                system.unlock_file(self._lock)
            self._lock = lock
        system.replace_file(self._spool.segment_path(segment.name), content)
        self._prepared = None
        self.finish()

    def _begin_segment(self, carried: Iterable[bytes]) -> None:
        if self._lock is None:
            self._spool.make()
            self._lock = system.lock_file(self._spool.lock_path(self.name))
            if self._lock is None:
                raise HomeError(f"{self._spool.folder} does not support file locks (flock)")
        # Never a number twice: one whose making a signal's exception broke off may have left a file.
        name = SegmentName(self.name, self._next_number)
        self._next_number += 1
        header = make_header(
            writer=self.name,
            source=self._source,
            debts=self._debts,
            created=format_time(datetime.now(UTC)),
        )
        # The notes of calls under way are carried along, so that the old segment can go; not
        # before they are in the new one, or a crash between the two would lose those calls.
        start = header.frame() + b"".join(carried)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = self._spool.segment_path(name)
        descriptor = os.open(path, flags, system.PRIVATE_FILE)
        try:
            if os.write(descriptor, start) < len(start):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        self.finish()
        self._descriptor = descriptor
        # What was carried along does not count: with very many open calls each new segment
        # would be full from its start.
        self._rotate_at = len(start) + self._segment_bytes
        self._begun_at = time.monotonic()
        self._segments.append(OwnSegment(name, len(start)))
