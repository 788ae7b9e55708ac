"""What slow writes mean, and who writes how from then on: decisions only, no clock and no I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["SLOW", "STALL", "Stalls"]

STALL: Final = 0.05
"""Seconds after which a write under way is not waited for."""
SLOW: Final = 0.001
"""Seconds from which a write is looked at: it takes microseconds if nothing is in the way."""
HELD_TOO_LONG: Final = 0.02
"""Seconds for which a write that keeps the interpreter's lock may hold up the whole process. To commit
its journal a file system makes a write wait for some milliseconds, once in a while."""
HOLD_AGAIN_AFTER: Final = 60.0
_FORGOTTEN_AFTER: Final = 10.0
_CONTENDED: Final = 2
_BUSY: Final = 0.5


class Stalls:
    """Tells a disk that stalls from a process that merely did not get to run.

    A thread that returns from a write waits for the interpreter's lock: beside a thread that
    computes for one or more switch intervals of 5 ms, whatever is written. Then the process uses the
    processor; while a disk stalls, it does not.

    Two writes in a row of the second kind that take `STALL` are a stall (one may be a pause of the
    whole machine). Three of the first kind within seconds ask for writes that keep the lock; one of
    these that takes too long ends that for a minute, since it held up the whole process.

    Attributes:
        in_a_row: Writes in a row that the disk held up.
        is_stalled: Whether the calling threads leave it to others to write.
        holds: Whether writes are to keep the interpreter's lock.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self.is_stalled = False
        self.holds = False
        self._contended = 0
        self._last_slow = 0.0
        self._not_before = 0.0

    def __repr__(self) -> str:
        return (
            f"<Stalls in_a_row={self.in_a_row} is_stalled={self.is_stalled} holds={self.holds}"
            f" contended={self._contended}>"
        )

    @property
    def watches(self) -> bool:
        """Whether what the process computes during a write is of interest."""
        return bool(self.in_a_row or self._contended)

    def heeds(self, now: float) -> bool:
        """Whether a write that was not slow says anything now, at a time of a monotonic clock."""
        return bool(self.in_a_row) or now - self._last_slow > _FORGOTTEN_AFTER

    def wrote(self, seconds: float, *, busy: float, now: float, held: bool = False) -> None:
        """Note how long a write took.

        Args:
            seconds: By the clock.
            busy: Of the processor's time that this process used meanwhile; 0 where nobody
                looked, since no write before was slow.
            now: When it ended, in seconds of a monotonic clock.
            held: It kept the interpreter's lock.
        """
        computed = busy >= seconds * _BUSY
        if seconds < STALL:
            self.in_a_row = 0
            self.is_stalled = False
        elif not computed:
            self.in_a_row += 1
            self.is_stalled = self.in_a_row > 1
        if now - self._last_slow > _FORGOTTEN_AFTER:
            self._contended = 0
        if seconds < SLOW:
            return
        self._last_slow = now
        if held:
            if seconds >= HELD_TOO_LONG:
                self.holds = False
                self._not_before = now + HOLD_AGAIN_AFTER
        elif self.holds:
            pass  # not yet in effect
        elif now >= self._not_before and (computed or not self._contended):
            # What the process computed during the first one nobody looked at.
            self._contended += 1
            if self._contended > _CONTENDED:
                self.holds = True
                self._contended = 0
