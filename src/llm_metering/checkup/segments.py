"""The segments of a home, looked at without touching a lock that anybody waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from .. import system
from ..transport.counters import read_counters
from ..transport.frames import Kind, parse_frames
from ..transport.segment_counts import count_segment
from ..transport.spool import VERSION, Debt, SegmentName, Spool

__all__ = ["Orphans", "Segments", "survey_segments"]

_START: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Events of dead processes that nobody delivers.

    Attributes:
        debt: The sink they are owed to.
        source: Their source.
        events: How many.
    """

    debt: Debt
    source: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What was seen.

    Attributes:
        count: Segments that can be read.
        unknown: Files of versions that we do not know.
        unreadable: Files that are none, or that we may not read.
        newest: When the youngest was begun, in UTC.
        orphans: By sink and source.
    """

    count: int
    unknown: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    newest: datetime | None
    orphans: tuple[Orphans, ...]


class _Versioned(msgspec.Struct):
    version: int


_versioned = msgspec.json.Decoder(_Versioned)


def survey_segments(spool: Spool, *, configured: Collection[str]) -> Segments:
    """Look at all segments.

    Args:
        spool: The folder of all journals; nothing is changed in it.
        configured: The keys of the debts that the configured sinks settle.
    """
    unknown = list(_other_versions(spool))
    unreadable: list[Path] = []
    created: list[datetime] = []
    owing: list[SegmentName] = []
    carried: set[str] = set()
    count = 0
    folded = set(read_counters(spool).folded)
    for name in spool.segments():
        if str(name) in folded or spool.is_empty(name):
            continue
        header = spool.header(name)
        if header is None:
            path = spool.segment_path(name)
            if path.exists():
                (unknown if _is_of_another_version(path) else unreadable).append(path)
            continue
        count += 1
        created.append(_moment(header.created))
        if is_alive(spool, name.writer):
            # Whoever lives and has a sink adopts what dead processes owe it.
            carried.update(debt.key for debt in header.debts)
        elif any(debt.key not in configured for debt in header.debts):
            owing.append(name)
    return Segments(
        count=count,
        unknown=tuple(unknown),
        unreadable=tuple(unreadable),
        newest=max(created, default=None),
        orphans=tuple(_orphans(spool, owing, {*configured, *carried})),
    )


def is_alive(spool: Spool, writer: str) -> bool:
    """Whether a writer's process lives: it holds its lock then."""
    path = spool.lock_path(writer)
    # Shared, and for a moment only. Who would settle a dead writer just then looks again later.
    lock = system.lock_file(path, exclusive=False, create=False)
    if lock is not None:
        system.unlock_file(lock)
        return False
    return path.exists()


def _other_versions(spool: Spool) -> Iterator[Path]:
    for folder in sorted(spool.folder.parent.glob("v*")):
        if folder != spool.folder:
            yield from sorted(folder.glob("*.seg"))


def _is_of_another_version(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            frames = parse_frames(file.read(_START), final=False).frames
        if not frames or frames[0].kind != Kind.HEADER or frames[0].start != 0:
            return False
        return _versioned.decode(frames[0].payload).version != VERSION
    except (OSError, msgspec.DecodeError):
        return False


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _orphans(
    spool: Spool, names: Collection[SegmentName], cared_for: Collection[str]
) -> Iterator[Orphans]:
    debts: dict[str, Debt] = {}
    events: Counter[tuple[str, str]] = Counter()
    for name in names:
        counts = count_segment(spool, name)
        if counts is None:
            continue
        for debt in counts.header.debts:
            debts[debt.key] = debt
            events[debt.key, counts.header.source] += counts.recorded - counts.settled[debt.key]
    for (key, source), amount in sorted(events.items()):
        if amount and key not in cared_for:
            yield Orphans(debt=debts[key], source=source, events=amount)
