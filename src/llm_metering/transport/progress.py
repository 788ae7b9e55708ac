"""How much of what this process recorded one sink has had, from the first event on without a gap."""

from __future__ import annotations

from collections.abc import Iterable

from .cursor import Cursor
from .spool import SegmentName

__all__ = ["Progress"]


class Progress:
    """Counts this process's own events that are settled, up to the first one that is not.

    A count of all settled ones would not do: a `flush` waits for the events before it, and an event
    that is held back may lie in a segment before others that are settled.
    """

    def __init__(self) -> None:
        self._done = 0
        self._through: dict[SegmentName, int] = {}

    def __repr__(self) -> str:
        return f"<Progress done={self._done} through={len(self._through)}>"

    def through(self, cursor: Cursor) -> None:
        """Note that a segment is settled to its end."""
        self._through[cursor.name] = cursor.settled

    def settled(self, in_hand: Iterable[Cursor]) -> int:
        """How many there are.

        Args:
            in_hand: The places in those own segments that are not through, in any order.
        """
        cursors = {cursor.name: cursor for cursor in in_hand}
        first = min(cursors, default=None)
        for name in sorted(self._through):
            if first is None or name < first:
                self._done += self._through.pop(name)
        total = self._done
        for name in sorted([*self._through, *cursors]):
            if name in cursors:
                total += cursors[name].settled
                if cursors[name].has_ready(1):
                    break
            else:
                total += self._through[name]
        return total
