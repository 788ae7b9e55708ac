"""What a medium spoils: shown for good, and in nobody's way."""

from __future__ import annotations

import pytest

from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    empty,
    journal_for,
    let_go,
    record,
    shipper_for,
)


@pytest.mark.parametrize("lost", [".seg", ".ack"])
def test_what_comes_back_after_it_was_counted_is_not_counted_again(home, lost):
    """A segment or acknowledgement that a disk brings back changes no count."""
    sink, other = ScriptedSink(), ScriptedSink(name="other")
    journal = journal_for(home, sink, other)
    record(journal, 2)
    journal.close()
    shippers = [shipper_for(journal, each) for each in (sink, other)]
    empty(shippers[0])
    shippers[0].finish_close()
    kept = {path: path.read_bytes() for path in Spool(home).folder.iterdir()}
    empty(shippers[1])
    shippers[1].finish_close()
    before = home_status(home)
    for path, content in kept.items():
        if path.suffix in (".seg", lost):
            path.write_bytes(content)

    assert home_status(home) == before
    for each in (sink, other):
        empty(shipper_for(journal_for(home, sink, other), each), adopt=True)
    empty(shipper_for(journal_for(home, sink, other), sink), adopt=True)
    assert home_status(home) == before
    assert Spool(home).segments() == []


def test_sums_that_cannot_be_read_are_said_to_be_lost(home):
    """Without the sums of what is gone, the rest is counted and shipped, and status says so."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 2)
    let_go(journal)
    (Spool(home).folder / "counters.json").write_bytes(b"\0" * 100)
    assert home_status(home)["damage"]["unreadable_counters"] == 1

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    status = home_status(home)
    assert (status["recorded"], status["damage"]["unreadable_counters"]) == (2, 1)
    assert Spool(home).segments() == []


@pytest.mark.parametrize(
    ("place", "kind", "quarantined"),
    [
        pytest.param(-10, "torn_bytes", 0, id="end"),
        pytest.param(-600, "corrupt_bytes", 1, id="middle"),
    ],
)
def test_damage_is_counted_for_good(home, place, kind, quarantined):
    """Bytes that are no record are shown, also when their segment is long gone."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 3)
    let_go(journal)
    (name,) = Spool(home).segments()
    path = Spool(home).segment_path(name)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert settle_writer(Spool(home), name.writer)
    damage = home_status(home)["damage"]

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert damage[kind] > 100
    assert home_status(home)["damage"] == {**damage, "quarantined_segments": quarantined}
    assert (home_status(home)["recorded"], len(sink.taken)) == (2, 2)
    assert Spool(home).segments() == []
