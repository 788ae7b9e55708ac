"""Events in memory: shipped from there, once, and accounted for when the disk is back."""

from __future__ import annotations

import json
import time

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.events import encode
from llm_metering.transport import disk_or_memory
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import add_live_state, home_status
from tests.factories import make_event

from .harness import (
    FullDisk,
    ScriptedSink,
    down,
    empty,
    ids_on_disk,
    journal_for,
    let_go,
    pump,
    record,
    reject,
    shipper_for,
)


def row_of(home, journal, *shippers):
    """Each sink's figures, as a living process shows them."""
    status = home_status(home)
    add_live_state(status, shippers, journal)
    keys = ("recorded", "acked", "pending", "dead")
    return {row["name"]: tuple(row[key] for key in keys) for row in status["sinks"]}


@pytest.fixture
def disk(monkeypatch):
    """The disk is full."""
    return FullDisk(monkeypatch)


def test_a_full_disk_stops_no_sink(home, disk):
    """While the disk takes nothing, events go from memory to the sinks, and then are gone."""
    sinks = [ScriptedSink(name="a"), ScriptedSink(name="b")]
    journal = journal_for(home, *sinks)
    shippers = [shipper_for(journal, sink) for sink in sinks]
    ids = record(journal, 3)

    empty(shippers[0])
    assert (sinks[0].taken, journal.held, shippers[0].own_settled) == (ids, 3, 3)
    assert row_of(home, journal, *shippers) == {"a": (3, 3, 0, 0), "b": (3, 0, 3, 0)}

    empty(shippers[1])
    assert (sinks[1].taken, journal.held) == (ids, 0)
    assert row_of(home, journal, *shippers) == {"a": (3, 3, 0, 0), "b": (3, 3, 0, 0)}

    disk.room(journal)
    later = record(journal)
    for shipper in shippers:
        empty(shipper)
    assert [sink.taken for sink in sinks] == [ids + later] * 2
    assert ids_on_disk(home) == later
    assert row_of(home, journal, *shippers) == {"a": (4, 4, 0, 0), "b": (4, 4, 0, 0)}
    assert [shipper.own_settled for shipper in shippers] == [journal.recorded] * 2
    let_go(journal, *shippers)
    assert home_status(home)["recorded"] == 4


def test_what_is_written_while_a_sink_takes_it_is_not_sent_again(home, disk):
    """The disk has room again just then; who sent it from memory passes over it there."""

    class Slow(ScriptedSink):
        def deliver(self, batch, /):
            if journal.held:
                disk.room(journal)
            return super().deliver(batch)

    sink = Slow()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    ids = record(journal, 3)

    empty(shipper)

    assert (sink.taken, ids_on_disk(home)) == (ids, ids)
    assert (journal.held, shipper.own_settled) == (0, journal.recorded)
    let_go(journal, shipper)
    assert home_status(home)["recorded"] == 3


def test_more_than_memory_holds_passes_through_it(home, disk, monkeypatch):
    """As long as the sinks keep up, a full disk loses nothing, however long it lasts."""
    monkeypatch.setattr(disk_or_memory, "HELD_LIMIT", 5)
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    ids = []
    for _ in range(4):
        ids += record(journal, 5)
        empty(shipper)

    assert (sink.taken, dict(journal.dropped)) == (ids, {})
    disk.room(journal)
    let_go(journal, shipper)
    (row,) = home_status(home)["sinks"]
    assert (row["recorded"], row["acked"], row["pending"]) == (20, 20, 0)


def test_what_one_sink_lacks_goes_to_the_disk(home, disk):
    """An event that one sink had from memory is written for the other, under the same id."""
    quick, slow = ScriptedSink(name="quick"), ScriptedSink(down, name="slow")
    journal = journal_for(home, quick, slow)
    shippers = [shipper_for(journal, sink) for sink in (quick, slow)]
    ids = record(journal, 2)
    for shipper in shippers:
        pump(shipper)
    assert journal.held == 2

    disk.room(journal)
    for shipper in shippers:
        shipper._pump.skip_backoff = True
        shipper._pump.dispatch.next_try = 0.0
        empty(shipper)

    assert (ids_on_disk(home), slow.taken) == (ids, ids)
    assert quick.taken == ids
    assert row_of(home, journal, *shippers) == {"quick": (2, 2, 0, 0), "slow": (2, 2, 0, 0)}
    assert [shipper.own_settled for shipper in shippers] == [2, 2]
    let_go(journal, *shippers)


def test_what_a_sink_rejected_from_memory_stays_dead(home, disk):
    """Once on disk, it is not offered again, and is in the dead letters once."""
    picky, slow = ScriptedSink(reject, name="picky"), ScriptedSink(down, name="slow")
    journal = journal_for(home, picky, slow)
    shippers = [shipper_for(journal, sink) for sink in (picky, slow)]
    record(journal)
    for shipper in shippers:
        pump(shipper)

    disk.room(journal)
    for shipper in shippers:
        shipper._pump.skip_backoff = True
        shipper._pump.dispatch.next_try = 0.0
        empty(shipper)

    assert row_of(home, journal, *shippers) == {"picky": (1, 0, 0, 1), "slow": (1, 1, 0, 0)}
    assert len(picky.offered) == 1
    (letters,) = (home / "journal" / "v1" / "dead").iterdir()
    assert len(letters.read_text().splitlines()) == 1
    let_go(journal, *shippers)


def test_flags_and_failures_are_counted_without_a_disk(home, disk):
    """What `status` counts is right for events that were never on disk."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    conflict = make_event(flags=("subject_conflict", "unknown_usage:a,b"))
    journal.record(conflict.id, encode(conflict))
    journal.count("failures", "hook", 2)
    empty(shipper)
    live = home_status(home)
    add_live_state(live, [shipper], journal)

    disk.room(journal)
    let_go(journal, shipper)

    for status in (live, home_status(home)):
        assert (status["failures"], status["flags"]["subject_conflict"]) == (2, 1)
        assert status["flags"]["unknown_usage"] == 1


def test_a_rejected_event_in_memory_is_dead(home, disk):
    """What a sink will never take is in its dead letters, and is offered no more."""
    sink = ScriptedSink(reject)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    (dead,) = record(journal)
    empty(shipper)
    (letters,) = (home / "journal" / "v1" / "dead").iterdir()
    assert json.loads(letters.read_text())["event"]["id"] == dead
    assert row_of(home, journal, shipper) == {"scripted": (1, 0, 0, 1)}

    disk.room(journal)
    let_go(journal, shipper)
    (row,) = home_status(home)["sinks"]
    assert (row["recorded"], row["acked"], row["dead"]) == (1, 0, 1)


def test_without_a_journal_everything_else_holds(home):
    """`durability="memory"`: no segment, and still batches, retries, a ledger and a status."""
    sink = ScriptedSink(down)
    with Meter(home, [sink], source="tests", durability="memory") as meter:
        for _ in range(3):
            meter.record(TokenUsage(input_tokens=1, output_tokens=1), "customer-42")
        assert meter.flush()
        rows = {row["name"]: (row["recorded"], row["acked"]) for row in meter.statistics()["sinks"]}
        (total,) = meter.usage()

        assert rows == {"ledger": (3, 3), "scripted": (3, 3)}
        assert (total.value, len(sink.taken)) == (6, 3)
        assert meter.statistics()["recorded"] == 3
    assert Spool(home).segments() == []


def test_memory_is_bounded_without_a_journal(home, monkeypatch, caplog):
    """Beyond the bound events are dropped and counted; what is left at the end is said to be lost."""
    monkeypatch.setattr(disk_or_memory, "HELD_LIMIT", 2)
    sink = ScriptedSink(*[down] * 100)
    meter = Meter(home, [sink], source="tests", durability="memory", ledger=False)
    for _ in range(3):
        meter.record(TokenUsage(input_tokens=1, output_tokens=1), "customer-42")

    assert meter.statistics()["dropped"]["memory_full"] == 1
    assert not meter.close(0)
    assert "2 events are lost" in caplog.text


def test_what_is_kept_for_a_replay_goes_first_on_a_full_disk(home, monkeypatch):
    """Segments that every sink has had make room for events that no sink has."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    record(journal)
    journal.close()
    empty(shipper)
    assert len(list(Spool(home).kept_folder.iterdir())) == 1
    FullDisk(monkeypatch)
    journal = journal_for(home, sink)
    record(journal)

    while list(Spool(home).kept_folder.iterdir()):
        time.sleep(0.01)

    let_go(journal, shipper)
