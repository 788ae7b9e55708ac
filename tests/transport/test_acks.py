"""Acknowledgements: what is lost of them is sent again, and never the other way round."""

from __future__ import annotations

import pytest

from llm_metering.sinks.base import Delivery
from llm_metering.transport.spool import Ack, Spool

from .harness import (
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    pump,
    record,
    shipper_for,
    sink_row,
    write_ack,
)


def test_what_was_accepted_behind_a_gap_is_offered_again_by_the_next_process(home, clock):
    """The offset stops at the first event still owed: better twice under one id than never."""
    sink = ScriptedSink(lambda batch: Delivery(accepted=frozenset(each.id for each in batch[1:])))
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 3)
    pump(shipper)
    assert sink_row(home)["pending"] == 3
    let_go(journal, shipper)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sink.offered == [ids, ids]
    assert sink_row(home)["acked"] == 3


@pytest.mark.parametrize("damage", ["lost", "empty", "torn", "zeroed", "flipped"])
def test_a_damaged_acknowledgement_means_not_yet(home, clock, damage):
    """Without its acknowledgement a segment is sent again, under the same ids."""
    sink, other = ScriptedSink(), ScriptedSink(*[down] * 9, name="other")
    journal = journal_for(home, sink, other)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 3)
    pump(shipper)
    journal.close()
    pump(shipper)
    let_go(journal, shipper)
    (name,) = Spool(home).segments()
    path = Spool(home).ack_path(name, shipper.debt.key)
    whole = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        flipped = bytes([*whole[:4], whole[4] ^ 1, *whole[5:]])  # in the offset
        damaged = {"empty": b"", "torn": whole[:20], "zeroed": bytes(len(whole))}
        path.write_bytes(damaged.get(damage, flipped))

    empty(shipper_for(journal_for(home, sink, other), sink), adopt=True)

    assert sink.offered == [ids, ids]
    assert Ack.decode(path.read_bytes(), path.name) == Ack.decode(whole, path.name)


def test_an_acknowledgement_ahead_of_a_cut_segment_ends_it(home, clock):
    """A power cut may have taken the end of a segment that a sink already has."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 3)
    let_go(journal)
    (name,) = Spool(home).segments()
    path = Spool(home).segment_path(name)
    shipper = shipper_for(journal_for(home, sink), sink, clock=clock)
    write_ack(home, name, shipper.debt, Ack(offset=path.stat().st_size))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 50])

    empty(shipper, adopt=True)

    assert (sink.offered, Spool(home).segments()) == ([], [])
    assert sink_row(home) == {"recorded": 2, "acked": 2, "pending": 0, "dead": 0, "dropped": 0}


def test_an_acknowledgement_of_another_segment_is_not_believed(home):
    """Files that were mixed up, as by a restored backup, are sent again, never passed over."""
    sink = ScriptedSink()
    ids = {}
    for _ in range(2):
        journal = journal_for(home, ScriptedSink())
        ids[journal.writer] = record(journal, 3)
        let_go(journal)
    first, second = Spool(home).segments()
    debt = shipper_for(journal_for(home, sink), sink).debt
    end = Spool(home).segment_path(first).stat().st_size
    write_ack(home, first, debt, Ack(offset=end))
    spool = Spool(home)
    spool.ack_path(second, debt.key).write_bytes(spool.ack_path(first, debt.key).read_bytes())

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sink.taken == ids[second.writer]
