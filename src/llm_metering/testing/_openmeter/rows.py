"""The rows of the fake server's table of events, and the orders in which lists read them.

Source: `openmeter/streaming/clickhouse/event_query*.go` and `openmeter/sink/storage.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c: whole
seconds, and an id for each row, so that an event that is stored twice is two rows.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Literal

from .ingest import Event

__all__ = ["Column", "Cursors", "Row", "Rows", "time_of"]

Column = Literal["time", "ingested_at", "stored_at"]
"""What a list may be sorted by."""

Cursors = Literal["row", "id"]
"""What tells rows of one second apart where a list goes on: their own ids, or their events'."""

_FEW: Final = 64


@dataclass(frozen=True, slots=True)
class Row:
    """An event that was stored.

    Attributes:
        row_id: The row's own; it is greater than that of each row before it.
        event: The event without the attributes that OpenMeter drops.
        time: The event's time, in whole seconds since 1970.
        ingested_at: When it was taken.
        stored_at: When it was stored, which lists show it from.
    """

    row_id: str
    event: Event
    time: int
    ingested_at: int
    stored_at: int


Place = Callable[[Row], tuple[int, str]]


class Rows:
    """All rows; not thread-safe, its owner has a lock.

    Args:
        cursors: What tells rows of one second apart.
    """

    def __init__(self, cursors: Cursors = "row") -> None:
        self.all: list[Row] = []
        self.cursors: Final = cursors
        self._by_id: dict[str, list[Row]] = {}
        self._sorted: dict[Column, list[Row]] = {}
        self._sorted_until: dict[Column, int] = {}

    def __len__(self) -> int:
        return len(self.all)

    def add(self, event: Event, *, ingested_at: float, stored_at: float) -> Row:
        """Store an event."""
        row = Row(
            f"{len(self.all):026}",  # a ULID's letters and length
            event,
            time_of(event),
            math.floor(ingested_at),
            math.floor(stored_at),
        )
        self.all.append(row)
        self._by_id.setdefault(event["id"], []).append(row)
        return row

    def of_ids(self, ids: Iterable[str]) -> list[Row]:
        """The rows of events with these ids."""
        return [row for id in dict.fromkeys(ids) for row in self._by_id.get(id, ())]

    def sorted_by(self, column: Column) -> list[Row]:
        """All rows in the order of a column; whoever gets it does not change it."""
        rows = self._sorted.setdefault(column, [])
        new = self.all[self._sorted_until.get(column, 0) :]
        place = self.place(column)
        if len(new) > _FEW:
            rows += new
            rows.sort(key=place)
        else:
            for row in new:
                insort(rows, row, key=place)
        self._sorted_until[column] = len(self.all)
        return rows

    def place(self, column: Column) -> Place:
        """Where a row stands in that order."""
        seconds = attrgetter(column)
        if self.cursors == "row":
            return lambda row: (seconds(row), row.row_id)
        return lambda row: (seconds(row), row.event["id"])


def time_of(event: Mapping[str, Any]) -> int:
    """The time of a stored event in whole seconds, which is all that OpenMeter keeps of it."""
    return math.floor(datetime.fromisoformat(event["time"]).timestamp())
