"""A clock that is set back, or forward: names and ages are made of it, and nothing else is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering import event_ids
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    down,
    empty,
    ids_on_disk,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    shipper_for,
    unique,
)


@pytest.mark.parametrize(
    "step", [pytest.param(-86_400, id="back"), pytest.param(86_400, id="forward")]
)
def test_a_clock_that_steps_loses_and_doubles_nothing(home, monkeypatch, step):
    """Writers whose names sort against the order in which they lived are settled and shipped."""
    sink, clock = ScriptedSink(), time.time_ns
    recorded: list[str] = []
    for number in range(3):
        shift = number * step * 1_000_000_000
        monkeypatch.setattr(event_ids.time, "time_ns", lambda shift=shift: clock() + shift)
        journal = journal_for(home, sink, segment_bytes=1500)
        recorded += [note_open(journal), *record(journal, 4)]
        let_go(journal)
    writers = [name.writer for name in Spool(home).segments()]
    assert writers == sorted(writers)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert unique(sink.taken) == unique(recorded)
    assert Spool(home).segments() == []
    assert (home_status(home)["recorded"], home_status(home)["open_calls"]) == (15, 0)


def test_a_clock_that_steps_during_a_call_settles_it_once(home, monkeypatch):
    """A call that seems to end before it began is one call, in a journal that goes on."""
    sink, clock = ScriptedSink(down), time.time_ns
    journal = journal_for(home, sink, segment_bytes=1500)
    under_way = note_open(journal)
    before = record(journal, 4)
    monkeypatch.setattr(event_ids.time, "time_ns", lambda: clock() - 3_600 * 1_000_000_000)
    after = record(journal, 4)
    assert [name.number for name in Spool(home).segments()] == [0, 1, 2]
    shipper = shipper_for(journal, sink)
    pump(shipper)
    past = datetime.now(UTC) - timedelta(days=3650)
    (row,) = home_status(home, now=past)["sinks"]
    assert row["oldest_pending_seconds"] == 0
    let_go(journal, shipper)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert unique(sink.taken) == {under_way, *before, *after}
    assert ids_on_disk(home) == []
