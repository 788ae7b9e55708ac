"""What one provider of metrics is shown: a meter's statistics, read once in a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from .. import system
from ..default_meter import current_meter
from ..meter import Meter
from .instruments import Point, Read, Statistics

__all__ = ["Exported"]

logger = logging.getLogger("llm_metering")

READ_EVERY: Final = 5.0
"""Seconds between two looks at the home's files, whoever asks how often."""
READ_SHARE: Final = 20
"""How many times longer than a look takes the next one waits at least: a home that holds the
backlog of days takes seconds to read."""
LOG_EVERY: Final = 60.0


class Exported:
    """The statistics that the instruments of one provider show.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.errors = 0
        self._clock = clock
        self._meter: Meter | None = None
        self._is_shown = False
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._known: Statistics | None = None
        self._next_read = self._next_log = 0.0

    def after_fork(self) -> None:
        """Forget what the parent read, and a lock that its exporter may have held."""
        self._begin()

    def show(self, meter: Meter | None) -> None:
        """Begin, with this meter."""
        with self._lock:
            if meter is not self._meter or not self._is_shown:
                self._known, self._next_read = None, 0.0
            self._meter, self._is_shown = meter, True

    def hide(self) -> None:
        """End."""
        with self._lock:
            self._is_shown, self._meter, self._known = False, None, None

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to see."""
        return self._is_shown

    def statistics(self) -> Statistics | None:
        """What the meter says, as it was a few seconds ago; `None` if it says nothing."""
        with self._lock:
            meter = self._meter if self._meter is not None else current_meter()
            if not self._is_shown or meter is None:
                return None
            begin = self._clock()
            if begin >= self._next_read:
                self._known = self._read(meter)
                end = self._clock()
                self._next_read = end + max(READ_EVERY, (end - begin) * READ_SHARE)
            return self._known

    def points(self, read: Read) -> list[Point]:
        """What an instrument shows now; nothing if it cannot be read."""
        statistics = self.statistics()
        if statistics is None:
            return []
        try:
            return list(read(statistics))
        except Exception as error:
            self._note(error)
            return []

    def _read(self, meter: Meter) -> Statistics | None:
        try:
            return meter.statistics()
        except Exception as error:
            # An exporter shows every other metric of the process as well.
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        self.errors += 1
        if self._clock() >= self._next_log:
            self._next_log = self._clock() + LOG_EVERY
            logger.warning("the meter's statistics cannot be read: %s", type(error).__name__)
