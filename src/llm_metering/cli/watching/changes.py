"""`Changes`: what has grown from look to look, and how fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Final

from ..render import Number

__all__ = ["Changes"]

_SPAN: Final = 60.0
"""Seconds over which a rate is taken."""


class Changes:
    """Compares the values of each look with those before.

    It keeps the present values, and what changed within the last minute.
    """

    def __init__(self) -> None:
        self._values: Mapping[Hashable, Number] | None = None
        self._recent: deque[tuple[float, dict[Hashable, Number]]] = deque()
        self._began = 0.0
        self._now = 0.0

    def observe(self, values: Mapping[Hashable, Number], now: float) -> None:
        """Take note of a look.

        Args:
            values: By group.
            now: Seconds on a clock that nobody sets.
        """
        before, self._values, self._now = self._values, values, now
        if before is None:
            self._began = now
            return
        changed = {
            group: values.get(group, 0) - before.get(group, 0)
            for group in {**before, **values}
            if values.get(group, 0) != before.get(group, 0)
        }
        self._recent.append((now, changed))
        while self._recent[0][0] <= now - _SPAN:
            self._recent.popleft()

    def since(self, group: Hashable) -> Number | None:
        """How much more it is than at the look before; `None` at the first one."""
        return self._recent[-1][1].get(group, 0) if self._recent else None

    def per_minute(self, group: Hashable) -> int | None:
        """How much it grew in the last minute, or would at this rate; `None` at the first look."""
        span = min(self._now - self._began, _SPAN)
        if span <= 0:
            return None
        return round(float(sum(each.get(group, 0) for _, each in self._recent)) / span * _SPAN)
