"""What was recorded in a time range, to be read once more: from the ledger, or from the journal."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from ... import system
from ...ledger import Ledger
from ..frames import Kind, parse_frames
from ..headers import Header, read_header
from ..kept import kept_segments
from ..payloads import event_id, event_time
from ..spool import SegmentName, Spool
from .time_order import Entry, TimeOrder

__all__ = ["JournalRecords", "LedgerRecords", "Records", "moment_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OPEN_AT_ONCE: Final = 16
"""Segments with their files open; events of many processes lie side by side in time."""


class Records(Protocol):
    """Events of one source and time range, oldest first, each once.

    Attributes:
        total: How many there are.
        unreadable: Records that are none, or do not say when they were, and segments that cannot
            be read: whether they belong here is not known.
    """

    @property
    def total(self) -> int: ...
    @property
    def unreadable(self) -> int: ...

    def read(self, last: Entry | None, limit: int) -> list[tuple[Entry, bytes | None]]:
        """The next events behind `last`; a payload is `None` if it is gone by now."""

    def close(self) -> None:
        """Let go of files."""


def moment_of(entry: Entry) -> datetime:
    """When an event was."""
    return _EPOCH + entry.time * _MICROSECOND


class LedgerRecords:
    """Events as they are in the ledger.

    Args:
        ledger: It is read piece by piece, and never locked in between.
        source: The CloudEvents source.
        start: First moment that counts.
        end: First moment that no longer counts.

    Raises:
        LedgerError: If it cannot be read.
        HomeError: If there is no room for temporary files.
    """

    unreadable = 0

    def __init__(
        self, ledger: Ledger, *, source: str, start: datetime | None, end: datetime | None
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._order = TimeOrder()
        moments = ledger.moments(start, end, source=source)
        self._order.fill(Entry(time, each) for each, time in moments)

    def __repr__(self) -> str:
        return f"<LedgerRecords {self._source} total={self.total}>"

    @property
    def total(self) -> int:
        return self._order.total

    def read(self, last: Entry | None, limit: int) -> list[tuple[Entry, bytes | None]]:
        entries = self._order.after(last, limit)
        payloads = self._ledger.payloads([each.id for each in entries], source=self._source)
        return [(each, payloads.get(each.id)) for each in entries]

    def close(self) -> None:
        self._order.close()
        self._ledger.close()


class JournalRecords:
    """Events as they are in the journal's segments, those that are kept included.

    Args:
        spool: The folder; nothing is changed in it.
        source: The CloudEvents source.
        start: First moment that counts.
        end: First moment that no longer counts.

    Raises:
        HomeError: If there is no room for temporary files.
    """

    def __init__(
        self, spool: Spool, *, source: str, start: datetime | None, end: datetime | None
    ) -> None:
        self._spool = spool
        self._source = source
        self._start = start
        self._end = end
        self._order = TimeOrder()
        self._open: OrderedDict[int, int] = OrderedDict()
        self.unreadable = 0
        # First the journal: a segment that is moved meanwhile is found at one place at least.
        present = spool.segments()
        self._names: Sequence[SegmentName] = sorted({*present, *kept_segments(spool)})
        self._order.fill(self._entries())

    def __repr__(self) -> str:
        return f"<JournalRecords {self._source} total={self.total}>"

    @property
    def total(self) -> int:
        return self._order.total

    def read(self, last: Entry | None, limit: int) -> list[tuple[Entry, bytes | None]]:
        return [(each, self._payload(each)) for each in self._order.after(last, limit)]

    def close(self) -> None:
        self._order.close()
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _places(self, name: SegmentName) -> tuple[Path, Path]:
        return self._spool.segment_path(name), self._spool.kept_path(name)

    def _entries(self) -> Iterator[Entry]:
        for place, name in enumerate(self._names):
            content = self._content(name)
            if content is None:
                continue
            for frame in parse_frames(content).frames:
                if frame.kind == Kind.EVENT:
                    event, time = event_id(frame.payload), event_time(frame.payload)
                    if event is None or time is None:
                        self.unreadable += 1
                    elif self._is_wanted(time):
                        microseconds = (time - _EPOCH) // _MICROSECOND
                        yield Entry(microseconds, event, place, frame.start, frame.end)

    def _is_wanted(self, time: datetime) -> bool:
        return (self._start is None or self._start <= time) and (
            self._end is None or time < self._end
        )

    def _content(self, name: SegmentName) -> bytes | None:
        """A segment, if it is of our source."""
        for path in self._places(name):
            header = read_header(path)
            if isinstance(header, Header):
                if header.source != self._source:
                    return None
                try:
                    return path.read_bytes()
                except FileNotFoundError:
                    continue  # just moved, or too old by now
            elif path.exists() and path.stat().st_size:
                self.unreadable += 1
                return None
        return None

    def _payload(self, entry: Entry) -> bytes | None:
        descriptor = self._descriptor(entry.place)
        if descriptor is None:
            return None
        data = system.read_at(descriptor, entry.end - entry.start, entry.start)
        frames = parse_frames(data).frames
        # Of a medium that fails, other bytes may come back than a moment ago.
        return frames[0].payload if frames and event_id(frames[0].payload) == entry.id else None

    def _descriptor(self, place: int) -> int | None:
        descriptor = self._open.pop(place, None)
        if descriptor is None:
            for path in self._places(self._names[place]):
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                break
            else:
                return None
        if len(self._open) >= _OPEN_AT_ONCE:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        self._open[place] = descriptor
        return descriptor
