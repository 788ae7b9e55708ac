"""One thread at a time appends; none waits for a disk that stalls, and a re-entry never waits.

A record that arrives while this very thread is appending another (garbage collection may run a
generator's `finally` inside any allocation) is left to the append under way.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .. import system
from .disk_or_memory import DiskOrMemory
from .frames import Kind
from .held import HELD_LIMIT
from .holding_write import LocalHoldingWrite
from .records import Record
from .stalls import SLOW, STALL, Stalls
from .syncer import Syncer

__all__ = ["Appender"]

# Bound once: each takes as long to look up as to call. What gevent replaces must not be.
_EVENT: Final = Kind.EVENT
_now: Final = time.monotonic
_LOOKS_AT_ONCE: Final = 3
_LOOK_EVERY: Final = 0.0002


class Appender:
    """Hands records over in the order in which they came, from whatever threads.

    Args:
        place: Takes them, on disk or in memory.
        folder: Where the segments are.
        on_append: Called when events were appended, with how many there are so far.

    Attributes:
        recorded: Events taken in.
        bypassed: Records that waited in memory for a lock or a disk that stalled.
        lock: Held by whoever is in `place`; it lets its own thread in again.
        stalls: What slow writes mean.
        syncer: Whose thread appends what is left to it.
    """

    syncer: Syncer

    def __init__(
        self, place: DiskOrMemory, *, folder: Path, on_append: Callable[[int], None]
    ) -> None:
        self._place = place
        self._put = place.put
        self._folder = folder
        self._on_append = on_append

    def begin(self) -> None:
        """Begin with nothing appended."""
        # An RLock lets this thread in again; `_busy_since` then says that it is a re-entry.
        self.lock = threading.RLock()
        self._busy_since = 0.0
        self._busy_by = 0
        self._deferred: deque[Record] = deque()
        self.stalls = Stalls()
        self._holding_write = LocalHoldingWrite(self._folder)
        self.recorded = 0
        self.bypassed = 0

    def __repr__(self) -> str:
        return f"<Appender recorded={self.recorded} waiting={self.waiting} {self.stalls!r}>"

    @property
    def waiting(self) -> int:
        """Records that are left to whoever appends next."""
        return len(self._deferred)

    def append(self, record: Record) -> bool:
        """Append, or leave it to who is at it.

        Returns:
            `False` if that is this very thread, in the midst of another record: it must not wait.
        """
        system.notice_fork()
        self._deferred.append(record)
        if sys.is_finalizing():
            self._write_alone()
            return True
        if self._busy_since or self.stalls.is_stalled:
            if self._busy_by == threading.get_ident():
                return False
            if self._bypasses():
                return True
        with self.lock:
            if not self._busy_since:
                self._write_deferred()
        return True

    def expected(self, deadline: float) -> int | None:
        """Events recorded until now, all of them where the shippers find them.

        Returns:
            `None` if a disk that stalls did not let us in by the deadline.
        """
        if not self.may_enter(deadline - time.monotonic()):
            return None
        with self.lock:
            if not self._busy_since:
                self._write_deferred()
            # A disk that stalls is left to the syncing thread, which may not have come to these.
            waiting = sum(record.kind is _EVENT for record in list(self._deferred))
            return self.recorded + waiting

    def may_enter(self, patience: float) -> bool:
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

    def exclusively(self, action: Callable[[], None]) -> None:
        """Do something with `place` while nobody appends, then what was left meanwhile."""
        with self.lock:
            self._busy_by = threading.get_ident()
            self._busy_since = time.monotonic()
            try:
                action()
            finally:
                self._busy_since = 0.0
                self._busy_by = 0
            self._write_deferred()

    def prepare_to_hold(self) -> None:
        """Get what writes under the interpreter's lock, if that is asked for; takes milliseconds."""
        if self.stalls.holds and self._holding_write.is_untried:
            self._holding_write.get()
            self._hold_or_not()

    def _bypasses(self) -> bool:
        """Whether what was deferred is left to others, because the disk stalls."""
        if self.syncer.runs_here:
            return False
        if not self.stalls.is_stalled and self.may_enter(STALL):
            return False
        if not self.syncer.at_once():
            return False
        self.bypassed += 1
        if len(self._deferred) > HELD_LIMIT:
            with contextlib.suppress(IndexError):  # somebody has just written them
                if self._deferred.pop().kind is _EVENT:
                    self._place.dropped["stalled"] += 1
        return True

    def _write_alone(self) -> None:
        """Write as a finaliser does while the interpreter is taken apart: no other thread runs any more.

        What one of them was in the midst of stays so, and is not waited for. The note of the call is on
        disk then, and the next process settles it.
        """
        if self._busy_since or not self.lock.acquire(blocking=False):
            return
        try:
            self._write_deferred()
        finally:
            self.lock.release()

    def _write_deferred(self) -> None:
        # The outer loop: what is deferred between the inner loop's last look and the release
        # must not wait for the next record, which may never come.
        deferred, stalls, put = self._deferred, self.stalls, self._put
        while deferred and not (stalls.is_stalled and self._leaves_it()):
            grown = False  # a note is nothing to ship
            # What a process computes is looked at only once a write was slow: it takes a while.
            computed = time.process_time() if stalls.watches else 0.0
            began = _now()
            self._busy_by = threading.get_ident()
            # Nothing is called between this and the `try`: an interrupt would leave us busy for ever.
            self._busy_since = began
            try:
                while deferred:
                    if put(deferred.popleft()):
                        self.recorded += 1
                        grown = True
                    ended = _now()
                    # To look takes as long as the write. While threads of the application compute,
                    # one write in a while is slow, and those between say nothing.
                    if ended - began >= SLOW or (computed and stalls.heeds(ended)):
                        computed = self._note_write(ended - began, computed, ended)
                        if stalls.is_stalled and self._leaves_it():
                            break
                    began = ended
                if grown:
                    self._on_append(self.recorded)
            finally:
                self._busy_since = 0.0
                self._busy_by = 0

    def _note_write(self, seconds: float, computed: float, ended: float) -> float:
        now = time.process_time()
        held = self._place.writer.holding_write is not None
        self.stalls.wrote(seconds, busy=now - computed if computed else 0.0, now=ended, held=held)
        if self.stalls.holds and self._holding_write.is_untried:
            self.syncer.at_once()  # to find out whether it can be had
        self._hold_or_not()
        return now

    def _hold_or_not(self) -> None:
        self._place.writer.holding_write = self._holding_write.write if self.stalls.holds else None

    def _leaves_it(self) -> bool:
        """Whether the rest is left to the syncing thread: this one has waited enough."""
        return not (sys.is_finalizing() or self.syncer.runs_here) and self.syncer.at_once()
