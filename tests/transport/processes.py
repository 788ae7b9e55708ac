"""A process as a test sees it, and what it was told of each event."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from llm_metering.transport.frames import Kind, encode_frame
from llm_metering.transport.journal import Journal
from llm_metering.transport.shipper import Shipper
from llm_metering.transport.spool import Spool
from llm_metering.transport.syncer import Syncer

from .kernel import Running


class HandSyncer(Syncer):
    """A syncer without a thread: its work is done when the test says so."""

    def start(self) -> bool:
        return False

    def turn(self) -> None:
        """Do what the thread would."""
        self._serve()


class NoTurns:
    """For processes of which each has its own."""

    def of(self, spool: Spool) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@dataclass
class Known:
    """An event, or a call, that a process was told of, and how much of it was seen on disk.

    Attributes:
        was_dropped: There was no room for it, in memory or on disk.
        is_counted: Its process wrote down, on a disk with room, all that it knew: an event that is
            in no segment by then went to its sinks from memory, and the books say so.
        was_let_go: Every sink had had it from memory when its process, on a disk without room for a
            word, let go of its journal: which says that no call is open, and no more.
    """

    id: str
    process: Process
    event: bytes | None = None
    note: bytes | None = None
    is_closed: bool = False
    was_dropped: bool = False
    drop_noted: bool = False
    is_counted: bool = False
    was_let_go: bool = False
    event_seen: bool = False
    note_seen: bool = False
    closing_seen: bool = False

    def look(self, content: bytes) -> None:
        """Look for it in what the segments of its process hold."""
        self.event_seen |= self.event is not None and self.event in content
        self.note_seen |= self.note is not None and self.note in content
        self.closing_seen |= encode_frame(Kind.CLOSED, self.id.encode()) in content

    @property
    def is_interrupted(self) -> bool:
        """Whether those who come after its process find that it was under way."""
        has_end = self.event_seen or self.closing_seen or self.is_counted or self.was_let_go
        return self.note_seen and not has_end and self.process.has_ended

    @property
    def payloads(self) -> set[bytes]:
        """What anybody may ever be sent as this event: one thing, unless some was in memory."""
        if self.event_seen:
            return {self.event} if self.event else set()
        shown = {self.event} if self.event is not None else set()
        return shown | ({self.note} if self.is_interrupted and self.note else set())


@dataclass
class Process:
    """A process of an application."""

    source: str
    running: Running
    journal: Journal
    syncer: HandSyncer
    shippers: list[Shipper]
    open_calls: list[Known] = field(default_factory=list)
    has_ended: bool = False
