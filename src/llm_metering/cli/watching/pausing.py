"""`Pause`: the wait between two looks, and what ends it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Self

__all__ = ["Pause"]


class Pause:
    """Waits; Ctrl-C and SIGTERM end it for good, a window of another size cuts it short.

    A second Ctrl-C ends the process at once, should something between two waits hang.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGWINCH]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> bool:
        """Wait so long at most.

        Returns:
            Whether the time is up, or it is over; else the window may have another size.
        """
        if self.is_over or not select.select([self._read], [], [], max(seconds, 0.0))[0]:
            return True
        os.read(self._read, 1024)
        return self.is_over

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGWINCH:
            if self.is_over:
                raise KeyboardInterrupt
            self.is_over = True
        # Through a pipe: a lock could be one that the interrupted thread itself holds.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")
