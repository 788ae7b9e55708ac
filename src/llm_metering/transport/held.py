"""Records in memory: while the disk takes none, or where none is wanted.

Sinks are sent the events from here. One that every sink has had goes; what was counted of it is
kept, and written down with the rest when the disk takes something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from .frames import Kind
from .records import Record, count_note

__all__ = ["FLAGS_NOTE", "HELD_LIMIT", "MEMORY_NOTE", "HeldRecords"]

HELD_LIMIT: Final = 10_000
"""Records kept in memory; only notes of calls may be more."""
MEMORY_NOTE: Final = "from_memory"
"""The counted note of events that went from here to every sink: key `recorded`, and `dead:` with
a debt's key for those that this one will never take."""

FLAGS_NOTE: Final = "flags"
"""That of their flags."""


class _Data(msgspec.Struct):
    flags: list[str] = msgspec.field(default_factory=list)


class _Flagged(msgspec.Struct):
    data: _Data


_flagged = msgspec.json.Decoder(_Flagged)


class HeldRecords:
    """The records that are in memory, by number, oldest first.

    Not safe from several threads: the journal sees to it that one is in here at a time.

    Args:
        debts: The keys of the debts that each event is owed to.
        limit: Records, at most.
    """

    def __init__(self, debts: Iterable[str], *, limit: int = HELD_LIMIT) -> None:
        self._debts: Final = tuple(debts)
        self._limit = limit
        self._records: dict[int, Record] = {}
        self._opened: dict[str, int] = {}
        # By debt: what became of each event here, `True` for taken.
        self._settled: dict[str, dict[int, bool]] = {key: {} for key in self._debts}
        # By debt: events that are on disk by now, and what had become of them here.
        self.had: dict[str, dict[str, bool]] = {key: {} for key in self._debts}
        self._next = 0
        self._gone = 0  # since ever, and of those the ones that no note on disk speaks of
        self._unnoted = 0
        self._events = 0
        self.counts: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """Records here, counts aside."""
        return len(self._records)

    def __repr__(self) -> str:
        return f"<HeldRecords {len(self._records)} events={self._events} gone={self._gone}>"

    @property
    def events(self) -> int:
        """Events here."""
        return self._events

    @property
    def has_open_calls(self) -> bool:
        """Whether notes of calls under way are here."""
        return bool(self._opened)

    def is_open(self, event_id: str) -> bool:
        """Whether the note that a call has started is here."""
        return event_id in self._opened

    def put(self, record: Record) -> bool:
        """Take a record; returns whether there was room for it."""
        if record.note is not None:
            name, key, amount = record.note
            self.counts[name, key] += amount
            return True
        if record.kind is Kind.CLOSED and record.event_id in self._opened:
            self._forget(self._opened.pop(record.event_id))
            return True
        # Notes always have room, which are no more than calls under way, and those noted on disk that
        # ended: without its end, such a call would become an interrupted one.
        if len(self._records) >= self._limit and record.kind is Kind.EVENT:
            return False
        number = self._next
        self._next += 1
        self._records[number] = record
        if record.kind is Kind.OPEN:
            self._opened[record.event_id] = number
        self._events += record.kind is Kind.EVENT
        return True

    def oldest(self) -> tuple[int, Record] | None:
        """What is to be written first."""
        return next(iter(self._records.items()), None)

    def written(self, number: int) -> None:
        """A record is on disk: its sinks will be offered it from there."""
        record = self._records[number]
        if self._opened.get(record.event_id) == number:
            del self._opened[record.event_id]
        for debt, settled in self._settled.items():
            if number in settled:
                self.had[debt][record.event_id] = settled[number]
        self._forget(number)

    def owed(self, debt: str) -> list[tuple[int, Record]]:
        """The events that one sink has still to be sent."""
        settled = self._settled[debt]
        return [
            (number, record)
            for number, record in self._records.items()
            if record.kind is Kind.EVENT and number not in settled
        ]

    def settle(self, debt: str, outcome: Iterable[tuple[int, str, bool]]) -> list[str]:
        """Note what a sink took (`True`) or will never take.

        Args:
            debt: The sink.
            outcome: Numbers and ids of events, and what became of them.

        Returns:
            The ids of the events that are gone from here, since every sink has had them.
        """
        settled = self._settled[debt]
        gone = []
        for number, event_id, taken in outcome:
            if number not in self._records:
                self.had[debt][event_id] = taken  # on disk since it was sent
                continue
            settled[number] = taken
            if all(number in self._settled[key] for key in self._debts):
                gone.append(self._let_go(number))
        return gone

    def settled_for(self, debt: str) -> int:
        """Events that one sink was sent from here and is not sent from elsewhere."""
        return self._gone + len(self._settled[debt])

    @property
    def unrecorded(self) -> int:
        """Events that no segment has and no note on disk speaks of."""
        return self._unnoted + self._events

    def view(self, debt: str) -> tuple[int, int, int]:
        """For `status`: events owed to a sink that no segment has; of those, taken and dead."""
        dead = self.counts[MEMORY_NOTE, f"dead:{debt}"]
        here = self._settled[debt].values()
        taken = sum(here)
        return self.unrecorded, self._unnoted - dead + taken, dead + len(here) - taken

    def counted(self) -> list[Record]:
        """The notes that keep what was counted; they are to be written once the disk takes them."""
        return [count_note(*note, amount) for note, amount in self.counts.items() if amount]

    def noted(self, note: Record) -> None:
        """One of the notes is on disk."""
        assert note.note is not None
        name, key, amount = note.note
        self.counts[name, key] -= amount
        if (name, key) == (MEMORY_NOTE, "recorded"):
            self._unnoted -= amount

    def _let_go(self, number: int) -> str:
        record = self._records[number]
        self.counts[MEMORY_NOTE, "recorded"] += 1
        self._gone += 1
        self._unnoted += 1
        for debt in self._debts:
            if not self._settled[debt][number]:
                self.counts[MEMORY_NOTE, f"dead:{debt}"] += 1
        for flag in _flagged.decode(record.payload).data.flags:
            self.counts[FLAGS_NOTE, flag.partition(":")[0]] += 1
        if (opened := self._opened.pop(record.event_id, None)) is not None:
            self._forget(opened)
        self._forget(number)
        return record.event_id

    def _forget(self, number: int) -> None:
        record = self._records.pop(number)
        self._events -= record.kind is Kind.EVENT
        for settled in self._settled.values():
            settled.pop(number, None)
