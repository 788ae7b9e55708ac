"""A segment damaged at any one byte: every other event is delivered, and the damage is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_metering.events import new_event_id
from llm_metering.transport.frames import Frame, Kind
from llm_metering.transport.spool import SegmentName, Spool
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    empty,
    frames_of,
    journal_for,
    let_go,
    record,
    shipper_for,
)


@pytest.fixture(autouse=True)
def no_syncing(monkeypatch):
    """What is spoiled here is spoiled by us, hundreds of times; the medium need not hear of it."""
    monkeypatch.setattr("llm_metering.system.files.sync_folder", lambda _: None)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def left(home) -> tuple[bytes, list[Frame], list[str]]:
    """What a killed process left: what is in its segment, its events' frames and ids."""
    journal = journal_for(home)
    ids = record(journal, 3)
    let_go(journal)
    (name,) = Spool(home).segments()
    path = Spool(home).segment_path(name)
    events = [frame for frame in frames_of(home) if frame.kind == Kind.EVENT]
    content = path.read_bytes()
    path.unlink()
    return content, events, ids


def shipped_of(home: Path, content: bytes) -> list[str]:
    """What is shipped of a dead writer's segment that holds this; nothing of it stays."""
    # Another writer each time: what was counted under one name is not counted again.
    Spool(home).segment_path(SegmentName(new_event_id(), 0)).write_bytes(content)
    sink = ScriptedSink()
    heir = shipper_for(journal_for(home, sink), sink)
    empty(heir, adopt=True)
    heir.finish_close()
    assert Spool(home).segments() == []
    return sink.taken


def counted(home: Path) -> tuple[int, int, int]:
    """Events recorded, torn bytes and corrupt bytes of a home since it was made."""
    status = home_status(home)
    (row,) = status["sinks"]
    assert (row["recorded"], row["acked"]) == (status["recorded"],) * 2
    assert status["damage"]["unreadable_segments"] == 0
    return (
        status["recorded"],
        status["damage"]["torn_bytes"],
        status["damage"]["corrupt_bytes"],
    )


def test_a_tail_torn_at_any_byte_costs_the_record_that_was_being_written(home, left):
    """However much of its last record is there: the others are shipped, the rest is counted."""
    content, events, ids = left
    *_, last = events
    recorded = torn = 0
    for size in range(last.start, last.end):
        assert shipped_of(home, content[:size]) == ids[:-1]

        recorded, torn = recorded + 2, torn + size - last.start
        assert counted(home) == (recorded, torn, 0)


def test_any_corrupt_byte_of_a_record_costs_that_record_alone(home, left):
    """Wherever in a record a medium flips a bit: those before it and behind it are shipped."""
    content, events, ids = left
    _, middle, _ = events
    recorded = corrupt = 0
    for place in range(middle.start, middle.end):
        flipped = content[place] ^ (1 << place % 8)
        spoiled = content[:place] + bytes([flipped]) + content[place + 1 :]

        assert shipped_of(home, spoiled) == [ids[0], ids[2]]

        recorded, corrupt = recorded + 2, corrupt + middle.end - middle.start
        assert counted(home) == (recorded, 0, corrupt)
