"""How much a sink may be owed on disk: near the bound it is told, beyond it the oldest is given up.

For that sink alone: what the others are owed stays. What was given up is counted as dropped, and
can be replayed from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..settings.checks import DEFAULT_BACKLOG_BYTES
from .alarms import Alarms
from .backlog import Backlog
from .journal import Journal
from .spool import Debt, SegmentName, Spool
from .suspects import Suspects
from .writer import SEGMENT_BYTES

__all__ = ["DEFAULT_BACKLOG_BYTES", "DROPPED_AS", "Bound", "owed_bytes", "segment_bytes_below"]

DROPPED_AS: Final = "backlog_full"
"""The key under which `status` counts these events as dropped."""
_TELL_FROM: Final = 0.8
_SEGMENTS: Final = 8


def segment_bytes_below(bound: int) -> int:
    """The size of segments: what is given up goes by whole ones, so a bound must hold several."""
    return min(SEGMENT_BYTES, bound // _SEGMENTS)


def owed_bytes(spool: Spool, debt: Debt) -> int:
    """How much of all segments a sink has still to be sent, notes included."""
    return sum(size for _, size in _owed(spool, debt))


@dataclass(slots=True)
class Bound:
    """Keeps what one sink is owed below a bound.

    Attributes:
        spool: The folder of all journals.
        journal: This process's own.
        debt: The sink.
        backlog: Its backlog.
        alarms: Who is told.
        limit: The bound, in bytes.
    """

    spool: Spool
    journal: Journal
    debt: Debt
    backlog: Backlog
    alarms: Alarms
    limit: int
    _seen: int = -1

    def is_due(self) -> bool:
        """Whether a segment was begun since the last look."""
        return self.journal.segments_begun != self._seen

    def keep(self, suspects: Suspects) -> Suspects | None:
        """Give up the oldest events that are beyond the bound.

        Segments that another process has in hand are left to it. How far the bound is passed
        meanwhile depends on how much is recorded between two looks.

        Args:
            suspects: What the sink may have.

        Returns:
            Those of them that are left; `None` if no events were given up.
        """
        self._seen = self.journal.segments_begun
        owed = _owed(self.spool, self.debt)
        total = sum(size for _, size in owed)
        if total < self.limit * _TELL_FROM:
            self.alarms.ended("backlog", sink=self.debt.name)
            return None
        given_up = 0
        for name, size in owed:
            if total <= self.limit:
                break
            events = self.backlog.give_up(name)
            if events is not None:
                total -= size
                given_up += len(events)
                suspects = suspects.forget(frozenset(events))
        if given_up:
            self.journal.count("dropped", DROPPED_AS, given_up)
            self.alarms.sound(
                "shed",
                f"the {given_up} oldest events that {self.debt.name} was owed were given up: more than"
                f" {self.limit} bytes; `llm-metering replay --sink {self.debt.name}` sends them again",
                sink=self.debt.name,
            )
        self.alarms.sound(
            "backlog",
            f"{self.debt.name} is owed {total} bytes of {self.limit}; beyond that the oldest events"
            " are given up",
            sink=self.debt.name,
        )
        return suspects if given_up else None


def _owed(spool: Spool, debt: Debt) -> list[tuple[SegmentName, int]]:
    owed = []
    for name in spool.segments():
        header = spool.header(name)
        if header is None or all(each.key != debt.key for each in header.debts):
            continue
        try:
            size = spool.segment_path(name).stat().st_size
        except FileNotFoundError:
            continue
        left = size - spool.read_ack(name, debt.key).offset
        if left > 0:
            owed.append((name, left))
    return owed
