"""When a sink was given an event, at the latest, as far as a home knows: by the times of its files."""

from __future__ import annotations

from pathlib import Path

from ..event_ids import minted_at
from ..transport.kept import kept_segments
from ..transport.spool import Debt, SegmentName, Spool

__all__ = ["GivenAway", "given_by"]


def given_by(spool: Spool, debt: Debt, name: SegmentName) -> float | None:
    """When the last settled event of a segment had been given to a sink.

    The acknowledgement is written after each batch; a segment is kept when all sinks have had it.
    """
    times = [_modified(spool.ack_path(name, debt.key)), _modified(spool.kept_path(name))]
    return min((each for each in times if each is not None), default=None)


class GivenAway:
    """When events had been given to a sink that are in no segment any more.

    Args:
        spool: The journals' folder.
        has_others: Whether the ledger also has what other homes recorded, which owe it themselves.
    """

    def __init__(self, spool: Spool, *, has_others: bool) -> None:
        kept = [_modified(spool.kept_path(name)) for name in kept_segments(spool)]
        self._kept_since = min((each for each in kept if each is not None), default=None)
        self._folded = _modified(spool.folder / "counters.json")
        self._has_others = has_others

    def by(self, event: str) -> float | None:
        """The moment for an event, in seconds since 1970; `None` if nobody here knows."""
        if self._has_others or self._folded is None:
            return None
        recorded = minted_at(event)
        if self._kept_since is not None and (recorded is None or recorded < self._kept_since):
            # Of those kept the oldest are deleted first: it was before any of them was kept.
            return self._kept_since
        # Not so if another process keeps less, or there was no room to keep anything. Its counts
        # were added to the sums before its segment was deleted.
        return self._folded if recorded is None or recorded < self._folded else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
