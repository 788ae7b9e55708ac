"""Whether the disk has stalled: decisions only, no clock and no I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["STALL", "Stalls"]

STALL: Final = 0.05
"""Seconds after which a write under way is not waited for."""
_BUSY: Final = 0.5


class Stalls:
    """Tells a disk that stalls from a process that merely did not get to run.

    A thread that returns from a write waits for the interpreter's lock, and beside threads that
    compute this takes long as well. Then the process uses the processor; while a disk stalls, it
    does not. Two such writes in a row are a stall: one may be a pause of the whole machine.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self.is_stalled = False

    def __repr__(self) -> str:
        return f"<Stalls in_a_row={self.in_a_row} is_stalled={self.is_stalled}>"

    def wrote(self, seconds: float, *, busy: float) -> None:
        """Note how long a write took.

        Args:
            seconds: By the clock.
            busy: Of the processor's time that this process used meanwhile; 0 where nobody
                looked, since no write before was slow.
        """
        if seconds < STALL:
            self.in_a_row = 0
            self.is_stalled = False
        elif busy < seconds * _BUSY:
            self.in_a_row += 1
            self.is_stalled = self.in_a_row > 1
