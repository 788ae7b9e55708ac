"""A clock that stands still until it is told to go on."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A clock for tests: call it for the time, `advance` it to let time go by.

    >>> clock = FakeClock(1000.0)
    >>> clock.advance(60)
    >>> clock()
    1060.0

    Args:
        now: The time it begins with, in seconds.

    Attributes:
        now: The time; it may be set, back as well, as the clock of a machine may be.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __repr__(self) -> str:
        return f"FakeClock({self.now})"

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time go by.

        Args:
            seconds: How much of it.

        Raises:
            ValueError: If it is less than none; to go back, set `now`.
        """
        if seconds < 0:
            raise ValueError(f"time goes on, not back: {seconds}")
        self.now += seconds
