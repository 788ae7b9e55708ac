"""What is done about a call that nobody is named to pay for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Literal

from ..errors import MissingSubjectError

__all__ = ["ON_MISSING", "MissingSubjects", "OnMissing"]

logger = logging.getLogger("llm_metering")

OnMissing = Literal["unattributed", "warn", "raise"]
ON_MISSING: Final[tuple[OnMissing, ...]] = ("unattributed", "warn", "raise")
"""Meter it under `unattributed`, and flag it; say so in the log as well; refuse it."""

_LOG_EVERY: Final = 60.0


class MissingSubjects:
    """Lets calls without a payer pass, or does not.

    Args:
        policy: What is done about them.
        now: The clock, in seconds.
    """

    def __init__(
        self, policy: OnMissing = "unattributed", *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy = policy
        self._now = now
        self._unsaid = 0
        self._next_log = 0.0

    def refusal(
        self, *, is_known: bool = False, flags: tuple[str, ...] = ()
    ) -> MissingSubjectError | None:
        """What to raise before such a call is made; `None` lets it pass.

        Args:
            is_known: Whether this is heard again of a call that was let pass.
            flags: What was odd when it was worked out who pays; the error says it.
        """
        if self._policy == "raise":
            return MissingSubjectError(flags)
        if self._policy == "warn" and not is_known:
            self._warn()
        return None

    def _warn(self) -> None:
        self._unsaid += 1
        now = self._now()
        if now < self._next_log:
            return
        self._next_log = now + _LOG_EVERY
        calls, self._unsaid = self._unsaid, 0
        logger.warning(
            "%d call(s) since the last such message have no subject and are billed to nobody; "
            'name one with llm_metering.subject("…"), a handler\'s subject, or run metadata',
            calls,
        )
