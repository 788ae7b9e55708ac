"""What is in the files of a home, read as bytes: events, segments, dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llm_metering.transport.frames import Kind, parse_frames
from llm_metering.transport.spool import Spool


def contents(spool: Spool) -> Iterator[bytes]:
    """What is in each segment."""
    for name in spool.segments():
        yield spool.segment_path(name).read_bytes()


def events_in(spool: Spool) -> list[list[bytes]]:
    """The payloads of the events in each segment."""
    return [payloads(content) for content in contents(spool)]


def payloads(content: bytes) -> list[bytes]:
    """The payloads of the events in a segment."""
    return [frame.payload for frame in parse_frames(content).frames if frame.kind == Kind.EVENT]


def identify(payload: bytes) -> str:
    """The id of an event."""
    return str(json.loads(payload)["id"])


def letters(path: Path, *, may_be_torn: bool) -> dict[str, str]:
    """The lines of a file of dead letters, by id."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            event = json.loads(line)["event"]
        except json.JSONDecodeError:
            assert may_be_torn, "torn"
            continue
        assert event["id"] not in found, "a letter written twice"
        found[event["id"]] = line
    return found
