"""What dead processes left: their open calls settled, their segments adopted or deleted."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from .. import system
from ..events import format_time
from .frames import Kind, encode_frame, parse_frames
from .spool import SegmentName, Spool, make_header

__all__ = ["open_calls", "settle_writer", "tidy"]

LITTER_AFTER: Final = 3600.0
"""Seconds after which what takes milliseconds was given up by a process that died: to replace a
file, or to make a segment beside a new lock."""


class _Identified(msgspec.Struct):
    id: str


_identify = msgspec.json.Decoder(_Identified)


def open_calls(spool: Spool, writer: str) -> dict[str, bytes]:
    """The calls that a writer noted as started and not as ended.

    Returns:
        The events to record in their place, by id.
    """
    started: dict[str, bytes] = {}
    ended: set[str] = set()
    for name in spool.segments_of(writer):
        try:
            content = spool.segment_path(name).read_bytes()
        except FileNotFoundError:
            continue
        for frame in parse_frames(content).frames:
            if frame.kind == Kind.OPEN:
                started[_identify.decode(frame.payload).id] = frame.payload
            elif frame.kind == Kind.EVENT:
                ended.add(_identify.decode(frame.payload).id)
            elif frame.kind == Kind.CLOSED:
                ended.add(frame.payload.decode())
    return {event_id: payload for event_id, payload in started.items() if event_id not in ended}


def settle_writer(spool: Spool, writer: str) -> bool:
    """Make sure that a writer is dead and that its open calls have their events.

    A call that was under way when its process died may have been paid for, and nobody saw it
    end: it becomes an event with status `interrupted` and no counts. These events are written
    to a last segment of the dead writer itself, which appears under its name all at once: so a
    crash in here neither loses one nor records it twice.

    Returns:
        Whether the writer's segments may be adopted; `False` while it lives.
    """
    if spool.is_finished(writer):
        return True
    # A lock file that is missing was deleted by somebody: its writer made it before its first
    # segment, and a living one cannot lose it by itself.
    lock = system.lock_file(spool.lock_path(writer))
    if lock is None:
        return spool.is_finished(writer)
    try:
        # Somebody may have been here between our look and our lock, and what he wrote may have
        # been shipped and deleted since: it must not be written again.
        unsettled = {} if spool.is_finished(writer) else open_calls(spool, writer)
        if unsettled:
            _write_last_segment(spool, writer, list(unsettled.values()))
        for name in spool.segments_of(writer):
            if spool.is_empty(name):
                spool.segment_path(name).unlink(missing_ok=True)
        # Gone if somebody else was here between our opening and our locking of the file.
        with contextlib.suppress(FileNotFoundError):
            spool.lock_path(writer).rename(spool.dead_mark(writer))
    finally:
        system.unlock_file(lock)
    return True


def _write_last_segment(spool: Spool, writer: str, payloads: list[bytes]) -> None:
    names = spool.segments_of(writer)
    # Not that of the last segment: its writer may have died before it had written one.
    header = next(filter(None, map(spool.header, names)), None)
    if header is None:
        return
    last = make_header(
        writer=writer,
        source=header.source,
        debts=header.debts,
        created=format_time(datetime.now(UTC)),
    )
    frames = [encode_frame(Kind.EVENT, payload) for payload in payloads]
    path = spool.segment_path(SegmentName(writer, names[-1].number + 1))
    system.replace_file(path, last.frame() + b"".join(frames))


def tidy(spool: Spool) -> None:
    """Remove what is left of writers that have no segment any more, and unfinished files."""
    alive = {name.writer for name in spool.segments()}
    for path in list(spool.folder.glob("*.dead")):
        # Looked at again, since a writer may have begun and died after we made the list.
        if path.stem not in alive and not spool.segments_of(path.stem):
            path.unlink(missing_ok=True)
    for path in list(spool.folder.glob("*.ack")):
        stem, _, _ = path.stem.rpartition(".")
        if not (spool.folder / f"{stem}.seg").exists():
            path.unlink(missing_ok=True)
    begun = {path for path in spool.folder.glob("*.lock") if path.stem not in {*alive, "counters"}}
    for path in (*begun, *spool.folder.glob("*.tmp")):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LITTER_AFTER:
                path.unlink()
