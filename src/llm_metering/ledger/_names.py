"""Numbers of cards and of kinds of events, while some of them are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Names"]


class Names:
    """Numbers that stand for something in a ledger; what is new has a number below 0 until it is there.

    Args:
        known: What is there.
    """

    def __init__(self, known: Mapping[Any, int] | None = None) -> None:
        self.known: dict[Any, int] = dict(known or {})
        self.new: list[Any] = []

    def of(self, value: Any) -> int:
        """The number of it."""
        number = self.known.get(value)
        if number is None:
            self.new.append(value)
            number = self.known[value] = -len(self.new)
        return number

    def number(self, numbers: Sequence[int]) -> None:
        """Give what is new the numbers that it has now, in its order."""
        self.known.update(zip(self.new, numbers, strict=True))
        self.new.clear()
