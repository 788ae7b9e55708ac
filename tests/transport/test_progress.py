"""How far a sink has come with this process's events: counted from the first on, without a gap."""

from __future__ import annotations

from llm_metering.sinks.base import Delivery

from .harness import ScriptedSink, down, journal_for, let_go, pump, record, shipper_for


def refuse(batch):
    """The server takes none of it, for what it is."""
    return Delivery.refuse(batch, "unknown meter")


def test_settled_events_do_not_stand_for_an_earlier_one_that_is_held_back(home):
    """A flush that waits for one event is not told that it is through because of a later one."""
    sink = ScriptedSink(refuse)
    journal = journal_for(home, sink, segment_bytes=1)
    shipper = shipper_for(journal, sink)
    ids = record(journal, 2)
    assert len(journal.segments()) == 2

    pump(shipper)
    pump(shipper)
    assert (sink.taken, shipper.own_settled) == (ids[1:], 0)

    pump(shipper)
    assert (sorted(sink.taken), shipper.own_settled) == (sorted(ids), 2)
    let_go(journal, shipper)


def test_segments_that_are_through_count_in_their_order(home):
    """Many small segments, one of them held up: those behind it count when it is through."""
    sink = ScriptedSink(refuse, name="picky")
    journal = journal_for(home, sink, segment_bytes=1)
    shipper = shipper_for(journal, sink)
    ids = record(journal, 30)
    counted = []
    while shipper.own_settled < 30:
        pump(shipper)
        counted.append(shipper.own_settled)

    assert counted == sorted(counted)
    assert sorted(sink.taken) == sorted(ids)
    let_go(journal, shipper)


def test_events_of_dead_processes_are_not_counted(home):
    """What is adopted is none of this process's own, and no flush of it waits for that."""
    sink = ScriptedSink(*[down] * 3)
    journal = journal_for(home, sink)
    record(journal, 3)
    let_go(journal)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    record(journal)
    sink.answers.clear()
    for _ in range(3):
        pump(shipper, adopt=True)

    assert (len(sink.taken), shipper.own_settled) == (4, 1)
    let_go(journal, shipper)
