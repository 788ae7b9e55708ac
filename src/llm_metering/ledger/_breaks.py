"""Breaks in work that takes a ledger again and again, so that others get their turn."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["PAUSE", "Breaks"]

PAUSE: Final = 0.11
"""Seconds. SQLite lets those who wait look every tenth of a second: they would find the ledger taken
each time if it was free for an instant only."""

_EACH: Final = 0.4
"""Seconds of work between two breaks: who writes waits for that, and for the piece that is being done."""


class Breaks:
    """The breaks of one piece of work after the other."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def take_one_if_due(self) -> None:
        """Wait for a while, if others have waited for long; call it outside a transaction."""
        if time.monotonic() - self._since >= _EACH:
            time.sleep(PAUSE)
            self._since = time.monotonic()
