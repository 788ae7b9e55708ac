"""Telling people: each kind of trouble at once, and then once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from ..errors import ProblemKind, TransportProblem

__all__ = ["LOG_EVERY", "Alarms"]

logger = logging.getLogger("llm_metering")

LOG_EVERY: Final = 60.0


class Alarms:
    """Logs problems and hands them to the application, from threads of ours alone.

    Args:
        on_error: The application's; called on a thread of ours, and never twice a minute for
            one kind of problem of one sink.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        on_error: Callable[[TransportProblem], object] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_error = on_error
        self._clock = clock
        self._next: dict[tuple[str, str | None], float] = {}

    def sound(
        self,
        kind: ProblemKind,
        message: str,
        *,
        sink: str | None = None,
        level: int = logging.ERROR,
    ) -> None:
        """Tell of a problem, unless the same was told within a minute.

        Never to be called under a lock: a log handler, or the application, may record.
        """
        now = self._clock()
        if now < self._next.get((kind, sink), now):
            return
        self._next[kind, sink] = now + LOG_EVERY
        logger.log(level, "%s", message)
        if self._on_error is None:
            return
        try:
            self._on_error(TransportProblem(kind, message, sink=sink))
        except Exception as error:
            # Not its message: what it quotes is not ours to log.
            logger.error("on_error failed: %s", type(error).__name__)  # noqa: TRY400

    def ended(self, kind: ProblemKind, *, sink: str | None = None) -> None:
        """The problem is over: the next one is told at once."""
        self._next.pop((kind, sink), None)
