"""Batches of memory that a sink refused: what it takes of them is taken, wherever it is by then."""

from __future__ import annotations

from llm_metering.sinks.base import Delivery

from .harness import (
    FullDisk,
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    pump,
    record,
    shipper_for,
)


def refuse(batch):
    """One of them is to blame, and the server does not say which."""
    return Delivery.refuse(batch, "bad")


def test_what_was_taken_from_memory_leaves_no_gap_on_disk(home, monkeypatch):
    """A search goes on behind what was taken from memory; a killed process has it sent no more."""
    disk = FullDisk(monkeypatch)
    sinks = [ScriptedSink(refuse, name="picky"), ScriptedSink(down, name="slow")]
    picky, slow = sinks
    journal = journal_for(home, *sinks)
    shippers = [shipper_for(journal, sink) for sink in sinks]
    ids = record(journal, 4)
    for shipper in shippers:
        pump(shipper)
    pump(shippers[0])
    assert (picky.offered, picky.taken) == ([ids, ids[:2]], ids[:2])

    disk.room(journal)
    pump(shippers[0])
    let_go(journal, *shippers)
    heir = journal_for(home, *sinks)
    shippers = [shipper_for(heir, sink) for sink in sinks]
    for shipper in shippers:
        empty(shipper, adopt=True)

    assert (picky.taken, slow.taken) == (ids, ids)
    let_go(heir, *shippers)
