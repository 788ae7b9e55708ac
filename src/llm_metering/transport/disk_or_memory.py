"""Where a record goes: into this process's segment, or into memory while the disk takes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..settings.checks import Durability
from .frames import Kind
from .held import HELD_LIMIT, HeldRecords
from .records import Record, closed_note, count_note
from .syncer import Syncer
from .writer import SegmentWriter

__all__ = ["DiskOrMemory"]

# Bound once: an enum's member costs as much to look up as a function to call.
_EVENT: Final = Kind.EVENT
_OPEN: Final = Kind.OPEN


class DiskOrMemory:
    """Puts records on disk, or holds them until it takes them.

    What comes behind a record that is held is held as well, so that the order stays. Not safe from
    several threads: the appender sees to it that one is in here at a time.

    Args:
        new_writer: Makes a writer of segments.
        debts: The keys of the debts that each event is owed to.
        durability: What a recorded event survives; see `Journal`.

    Attributes:
        writer: Of this process's segments.
        held: What is in memory.
        open_calls: The notes of calls under way that are on disk, by the ids of the calls. Each new
            segment begins with them; one that is held is in none, until it is written itself.
        trouble: What the disk said, if nobody was told yet.
        dropped: Events given up, by reason, as far as no note on disk says so.
        syncer: Whose thread syncs what is written, and writes what is held.
    """

    syncer: Syncer

    def __init__(
        self,
        new_writer: Callable[[], SegmentWriter],
        *,
        debts: Sequence[str],
        durability: Durability,
    ) -> None:
        self._new_writer = new_writer
        self._debts = tuple(debts)
        self._in_memory = durability == "memory"

    def begin(self) -> None:
        """Begin with a writer that has written nothing."""
        self.held = HeldRecords(self._debts, limit=HELD_LIMIT)
        self.writer = self._new_writer()
        # Since there is no disk, or since what came before waits for it.
        self._keeps_off_disk = self._in_memory
        self.open_calls: dict[str, bytes] = {}
        self.trouble: OSError | None = None
        self._closed = False
        self.dropped: Counter[str] = Counter()

    def __repr__(self) -> str:
        where = "memory" if self._keeps_off_disk else "disk"
        return f"<DiskOrMemory {self.writer.name} {where} {self.held!r}>"

    def put(self, record: Record) -> bool:
        """Take a record; returns whether that is one more event."""
        if self._keeps_off_disk or not self._to_disk(record):
            return self._hold(record)
        return record.kind is _EVENT

    def write_what_waits(self) -> None:
        """Write what is held, and what was counted of it."""
        # Nothing in here gives the interpreter's lock up, unless something is held: who records
        # waits for it.
        if self._keeps_off_disk or any(self.held.counts.values()) or self.dropped:
            self._write_held()

    def settle_held(self, debt: str, outcome: Iterable[tuple[int, str, bool]]) -> None:
        """Note which events in memory a sink took (`True`) or will never take."""
        for event_id in self.held.settle(debt, outcome):
            if self.open_calls.pop(event_id, None) is not None:
                # On disk that call has started, and must not become an interrupted one.
                self.held.put(closed_note(event_id))

    def close(self) -> None:
        """Write what is held and let go, unless calls are open; a later record begins anew."""
        self._write_held()
        if self.open_calls or self.held.has_open_calls:
            return
        self.writer.release()
        self._closed = True

    def _to_disk(self, record: Record) -> bool:
        if self._closed:
            # Generators collected at the end of the interpreter still settle their calls.
            self.writer = self._new_writer()
            self._closed = False
        try:
            self.writer.append(record.frame, self.open_calls.values())
        except OSError as error:
            self.trouble = error
            return False
        if record.kind is _OPEN:
            self.open_calls[record.event_id] = record.frame
        else:
            self.open_calls.pop(record.event_id, None)
        if self.syncer.is_idle:
            self.syncer.soon()
        return True

    def _hold(self, record: Record) -> bool:
        if self._in_memory and record.kind in (Kind.OPEN, Kind.CLOSED):
            # Notes are for whoever comes after this process, who will find nothing.
            return False
        is_held = self.held.put(record)
        if is_held:
            self._keeps_off_disk = True
        elif record.kind is Kind.EVENT:
            self.dropped["memory_full" if self._in_memory else "disk_full"] += 1
            # Counted as dropped; its note must not make an interrupted call of it as well.
            is_on_disk = self.open_calls.pop(record.event_id, None) is not None
            if is_on_disk or self.held.is_open(record.event_id):
                self.held.put(closed_note(record.event_id))
        if not self._in_memory:
            self.syncer.soon()
        return is_held and record.kind is Kind.EVENT

    def _write_held(self) -> None:
        if self._in_memory:
            return
        while (oldest := self.held.oldest()) is not None:
            number, record = oldest
            if not self._to_disk(record):
                return
            self.held.written(number)
        self._keeps_off_disk = False
        for note in self.held.counted():
            if self._to_disk(note):
                self.held.noted(note)
        for reason in list(self.dropped):
            amount = self.dropped[reason]
            if self._to_disk(count_note("dropped", reason, amount)):
                self.dropped[reason] -= amount
                self.dropped += Counter()  # leaves out what is 0
