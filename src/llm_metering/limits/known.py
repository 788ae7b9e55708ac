"""`KnownTerms`: which accounts a subject has, without a question to the store for each call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from .stores import LimitStore, Terms

__all__ = ["FRESH", "KnownTerms"]

FRESH: Final = 10.0
"""Seconds for which a subject's first grant of a further feature, or other rates, may be unknown here."""

_MOST: Final = 20_000


class KnownTerms:
    """What holds for subjects, as it was a moment ago.

    That a subject has no account at all is not kept: its first grant holds at once.

    Args:
        store: Who knows.
        clock: In seconds.
    """

    def __init__(self, store: LimitStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[float, Terms]] = {}

    def of(self, subject: str) -> Terms:
        """What holds for a subject.

        Raises:
            LimitStoreError: If it is not known, and the store cannot be asked.
        """
        now = self._clock()
        known = self._known.get(subject)
        if known is not None and known[0] > now:
            return known[1]
        terms = self._store.terms(subject)
        if terms.features:
            if len(self._known) >= _MOST:
                # Those that pay often come back; to find the oldest would take longer.
                self._known.clear()
            self._known[subject] = now + FRESH, terms
        return terms

    def forget(self, subject: str) -> None:
        """Something was changed here."""
        self._known.pop(subject, None)
