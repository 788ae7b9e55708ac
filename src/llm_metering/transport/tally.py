"""What was read of a segment: its events, and what else there is in it to be counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .frames import Frame, Kind, Parsed
from .held import FLAGS_NOTE, MEMORY_NOTE
from .payloads import Item, Note, event_flags, event_id, read_closed, read_events, read_note

__all__ = ["Item", "Tally"]

_EVENT: Final = int(Kind.EVENT)  # to be compared with, which an enum's member is slow at

_OPENING_BRACKET: Final = ord("[")


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of a segment's records, as far as they were read.

    Attributes:
        recorded: Events.
        end: The end of the last whole frame.
        corrupt: Bytes before it that are no record.
        counts: Counted notes by name and key.
        flags: Events by flag.
        from_memory: Events that went to every sink without ever being in a segment: `recorded`,
            and `dead:` with a debt's key.
    """

    recorded: int = 0
    end: int = 0
    corrupt: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    from_memory: Counter[str] = field(default_factory=Counter)

    def take(self, parsed: Parsed) -> list[Item]:
        """Count what was read next; returns the events of it."""
        events = [frame for frame in parsed.frames if frame.kind == _EVENT]
        items = read_events(events)
        for _ in range(len(events) - len(items)):
            self._note_unreadable()
        if len(events) < len(parsed.frames):
            for frame in parsed.frames:
                if frame.kind != _EVENT:
                    self._take_note(frame)
        # Without a list in it, an event has no flags; no other look at it is as quick.
        for item in items:
            if _OPENING_BRACKET in item.payload:
                # Behind a colon stand details, such as names that a server chose: without end.
                self.flags.update(flag.partition(":")[0] for flag in event_flags(item.payload))
        self.recorded += len(items)
        self.corrupt += parsed.corrupt
        self.end = parsed.end
        return items

    def see_opened(self, call: str) -> None:
        """A call was noted as started."""

    def see_closed(self, call: str) -> None:
        """A call was noted as ended without an event."""

    def _take_note(self, frame: Frame) -> None:
        payload = frame.payload
        if frame.kind == Kind.COUNT:
            if (note := read_note(payload)) is None:
                self._note_unreadable()
            else:
                self._count(note)
        elif frame.kind == Kind.OPEN:
            if (opened := event_id(payload)) is None:
                self._note_unreadable()
            else:
                self.see_opened(opened)
        elif frame.kind == Kind.CLOSED:
            if (closed := read_closed(payload)) is None:
                self._note_unreadable()
            else:
                self.see_closed(closed)

    def _count(self, note: Note) -> None:
        if note.name == MEMORY_NOTE:
            self.from_memory[note.key] += note.amount
        elif note.name == FLAGS_NOTE:
            self.flags[note.key] += note.amount
        else:
            self.counts[note.name, note.key] += note.amount

    def _note_unreadable(self) -> None:
        self.counts["damage", "unreadable_records"] += 1
