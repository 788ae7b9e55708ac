"""Calls whose start or end is in memory: they become interrupted ones only if they were."""

from __future__ import annotations

import errno

import pytest

from llm_metering.events import encode
from llm_metering.transport import disk_or_memory
from llm_metering.transport.recovery import open_calls
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status
from llm_metering.transport.writer import SegmentWriter
from tests.factories import make_event

from .harness import (
    FullDisk,
    ScriptedSink,
    empty,
    journal_for,
    let_go,
    note_open,
    record,
    shipper_for,
)


@pytest.fixture
def disk(monkeypatch):
    """The disk is full."""
    return FullDisk(monkeypatch)


def test_a_call_that_went_from_memory_is_not_interrupted(home, monkeypatch):
    """A call that was noted on disk and whose event never came there is no call of a dead process."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    event_id = note_open(journal)
    disk = FullDisk(monkeypatch)
    journal.record(event_id, encode(make_event(id=event_id)))
    empty(shipper)
    assert sink.taken == [event_id]

    disk.room(journal)
    writer = journal.writer
    let_go(journal, shipper)

    assert open_calls(Spool(home), writer) == {}


def test_a_call_that_went_from_memory_is_not_interrupted_by_a_full_disk(home, monkeypatch):
    """Who ends with a full disk can write no end of the call down, and says that none is open."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    event_id = note_open(journal)
    FullDisk(monkeypatch)
    journal.record(event_id, encode(make_event(id=event_id)))
    empty(shipper)
    journal.close()
    let_go(journal, shipper)
    monkeypatch.undo()

    heir = journal_for(home, sink)
    shipper = shipper_for(heir, sink)
    empty(shipper, adopt=True)

    assert sink.taken == [event_id]
    assert home_status(home)["recorded"] == 0  # no book of it could be written
    let_go(heir, shipper)


def test_notes_of_a_call_in_memory_go_with_it(home, disk):
    """A start and an end that the disk never saw leave nothing to be written."""
    journal = journal_for(home)
    opened = note_open(journal)
    assert journal.held == 1

    journal.note_closed(opened)

    assert journal.held == 0
    let_go(journal)


def test_a_dropped_call_is_not_interrupted_as_well(home, monkeypatch):
    """An event that found no room counts as dropped, even if its call was noted on disk before."""
    monkeypatch.setattr(disk_or_memory, "HELD_LIMIT", 1)
    journal = journal_for(home)
    event_id = note_open(journal)
    disk = FullDisk(monkeypatch)
    record(journal)
    journal.record(event_id, encode(make_event(id=event_id)))
    assert dict(journal.dropped) == {"disk_full": 1}

    disk.room(journal)
    writer = journal.writer
    let_go(journal)

    assert open_calls(Spool(home), writer) == {}


@pytest.mark.parametrize("has_event", [True, False], ids=["with an event", "without one"])
def test_a_note_that_is_held_is_in_no_segment(home, monkeypatch, has_event):
    """A segment may be begun in the last bytes of a disk: it holds no note that waits in memory too,
    or the end of the call there, which takes the note along, would leave it open on disk."""

    def refuse(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SegmentWriter, "_write", refuse)
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    event_id = note_open(journal)
    assert len(Spool(home).segments()) == 1
    if has_event:
        journal.record(event_id, encode(make_event(id=event_id)))
        empty(shipper)
    else:
        journal.note_closed(event_id)
    assert journal.held == 0

    monkeypatch.undo()
    ids = record(journal)
    journal.durable().result(60)  # writes what is held as well
    writer = journal.writer
    let_go(journal, shipper)

    assert open_calls(Spool(home), writer) == {}
    heir = journal_for(home, sink)
    shipper = shipper_for(heir, sink)
    empty(shipper, adopt=True)
    assert sink.taken == ([event_id, *ids] if has_event else ids)
    let_go(heir, shipper)


def test_the_note_of_a_call_finds_room_in_a_full_memory(home, monkeypatch):
    """A process that is killed later leaves it an interrupted call, not nothing."""
    monkeypatch.setattr(disk_or_memory, "HELD_LIMIT", 1)
    disk = FullDisk(monkeypatch)
    journal = journal_for(home)
    record(journal)
    event_id = note_open(journal)
    assert dict(journal.dropped) == {}

    disk.room(journal)
    writer = journal.writer
    let_go(journal)

    assert list(open_calls(Spool(home), writer)) == [event_id]
