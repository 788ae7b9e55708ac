"""What dead processes left: each open call becomes one event, each segment is adopted once."""

from __future__ import annotations

import threading

import pytest

from llm_metering import system
from llm_metering.events import encode
from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import SegmentName, Spool
from llm_metering.transport.status import home_status
from tests.factories import make_event

from .harness import (
    ScriptedSink,
    empty,
    events_on_disk,
    ids_on_disk,
    interrupted,
    journal_for,
    kill,
    let_go,
    note_open,
    record,
    run_child,
    shipper_for,
    unique,
)

IN_CALL = """
import sys, time
from pathlib import Path
from tests.transport.harness import journal_for, note_open, record

journal = journal_for(Path(sys.argv[1]), segment_bytes=int(sys.argv[2]))
ended = note_open(journal)
under_way = note_open(journal)
from llm_metering.events import encode
from tests.factories import make_event
journal.record(ended, encode(make_event(id=ended)))
others = record(journal, 3)
print(journal.writer, under_way, ended, *others, flush=True)
time.sleep(60)
"""


@pytest.fixture(params=[pytest.param(8 << 20, id="one segment"), pytest.param(1, id="rotated")])
def killed_in_call(home, request):
    """A process that was killed during a call: its writer, the open call, what it recorded."""
    process = run_child(IN_CALL, home, request.param)
    writer, under_way, *recorded = process.stdout.readline().split()
    assert not settle_writer(Spool(home), writer), "it lives"
    kill(process)
    return writer, under_way, recorded


def test_a_call_under_way_becomes_one_interrupted_event(home, killed_in_call):
    """A process that dies in mid-call leaves one event, under the id minted at its start."""
    writer, under_way, recorded = killed_in_call

    assert settle_writer(Spool(home), writer)
    assert settle_writer(Spool(home), writer)

    (event,) = [each for each in events_on_disk(home) if each["id"] == under_way]
    assert event["data"]["status"] == "interrupted"
    assert event["data"]["provenance"] == "missing"
    assert "total_tokens" not in event["data"]
    assert unique(ids_on_disk(home)) == {under_way, *recorded}
    assert home_status(home)["open_calls"] == 0


def test_the_first_drain_ships_interrupted_calls_too(home, killed_in_call):
    """Nothing left means nothing: the event that settling adds is shipped with the others."""
    _, under_way, recorded = killed_in_call
    sink = ScriptedSink()
    heir = shipper_for(journal_for(home, sink), sink)

    empty(heir, adopt=True)

    assert unique(sink.taken) == {under_way, *recorded}
    assert Spool(home).segments() == []
    assert list(Spool(home).folder.glob("*.dead")) == []


SETTLE = """
import sys
from pathlib import Path
from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool

sys.stdin.readline()
while not settle_writer(Spool(Path(sys.argv[1])), sys.argv[2]):
    pass
"""


def test_processes_that_settle_at_once_settle_once(home, killed_in_call):
    """However many find a dead writer at the same moment, its open call has one event."""
    writer, under_way, recorded = killed_in_call
    rivals = [run_child(SETTLE, home, writer) for _ in range(4)]
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    for rival in rivals:
        _, stderr = rival.communicate(timeout=60)
        assert (rival.returncode, stderr) == (0, "")

    assert unique(ids_on_disk(home)) == {under_way, *recorded}


def test_threads_that_settle_at_once_settle_once(home):
    """Nor do the shippers of one process settle twice."""
    for _ in range(20):
        journal = journal_for(home)
        note_open(journal)
        writer = journal.writer
        let_go(journal)
        threads = [
            threading.Thread(target=settle_writer, args=[Spool(home), writer]) for _ in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(unique(ids_on_disk(home))) == 20


CRASH_IN_SETTLING = """
import os, sys
from pathlib import Path
from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool

def die(*arguments):
    os.kill(os.getpid(), 9)

setattr(*{"before the segment": (os, "replace", die), "before the mark": (Path, "rename", die)}[sys.argv[3]])
settle_writer(Spool(Path(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.parametrize("crash", ["before the segment", "before the mark"])
def test_settling_can_crash_anywhere(home, killed_in_call, crash):
    """A process that is killed while it settles another's calls neither loses nor doubles one."""
    writer, under_way, recorded = killed_in_call
    settling = run_child(CRASH_IN_SETTLING, home, writer, crash)
    settling.communicate(timeout=60)
    assert settling.returncode == -9
    assert not Spool(home).is_finished(writer)

    assert settle_writer(Spool(home), writer)

    assert unique(ids_on_disk(home)) == {under_way, *recorded}


def test_the_segments_of_the_living_are_left_alone(home):
    """What a living process wrote is its own to ship, however long it is idle."""
    process = run_child(IN_CALL, home, 1)
    writer, *_ = process.stdout.readline().split()
    before = Spool(home).segments()
    try:
        sink = ScriptedSink()
        heir = shipper_for(journal_for(home, sink), sink)
        empty(heir, adopt=True)
        assert not settle_writer(Spool(home), writer)
        assert (sink.offered, Spool(home).segments()) == ([], before)
    finally:
        kill(process)


def test_a_writer_whose_lock_file_is_missing_is_dead(home):
    """A lock file that somebody deleted keeps nobody's events back."""
    journal = journal_for(home)
    open_call, recorded = note_open(journal), record(journal)
    writer = journal.writer
    let_go(journal)
    Spool(home).lock_path(writer).unlink()

    assert settle_writer(Spool(home), writer)
    assert unique(ids_on_disk(home)) == {open_call, *recorded}


def test_a_call_that_is_open_when_its_journal_is_closed_is_settled_at_its_death(home):
    """A call that outlives the meter is nobody's to settle until its process dies."""
    journal = journal_for(home)
    ended, under_way = note_open(journal), note_open(journal)
    writer = journal.writer
    journal.close()
    assert not settle_writer(Spool(home), writer)
    journal.record(ended, encode(make_event(id=ended)))
    let_go(journal)

    assert settle_writer(Spool(home), writer)
    statuses = {each["id"]: each["data"]["status"] for each in events_on_disk(home)}
    assert statuses == {ended: "completed", under_way: "interrupted"}
    assert len(ids_on_disk(home)) == 2


def test_a_note_that_came_late_opens_nothing(home):
    """A call whose start was noted by one thread after another had ended it is ended."""
    journal = journal_for(home)
    event = make_event()
    journal.record(event.id, encode(event))
    journal.note_open(event.id, encode(interrupted(id=event.id)))
    writer = journal.writer
    let_go(journal)

    assert settle_writer(Spool(home), writer)
    assert ids_on_disk(home) == [event.id]


def test_a_younger_segment_does_not_go_before_an_older_one(home):
    """An older segment's open call has perhaps ended in the younger: without it, it'd seem open."""
    sink, slow = ScriptedSink(), ScriptedSink(name="slow")
    journal = journal_for(home, sink, slow, segment_bytes=1)
    shippers = [shipper_for(journal, each) for each in (sink, slow)]
    refused = note_open(journal)
    journal.note_closed(refused)
    record(journal)
    writer = journal.writer
    oldest = SegmentName(writer, 0)
    busy = system.lock_file(Spool(home).ack_path(oldest, shippers[1].debt.key))
    for shipper in shippers:
        empty(shipper)
    system.unlock_file(busy)
    let_go(journal, *shippers)

    assert settle_writer(Spool(home), writer)
    assert refused not in ids_on_disk(home)
