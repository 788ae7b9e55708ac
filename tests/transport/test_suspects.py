"""Events that a sink may have: counted, sent again under the same ids, and not for ever."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport.dispatch import SinkNote
from llm_metering.transport.spool import Spool

from .harness import ScriptedSink, down, journal_for, pump, record, reject, shipper_for, sink_row

DAY = 86400.0


def lost(batch):
    """The server took the batch, or did not; its answer never came."""
    return Delivery.try_later(batch, "no answer in time", ambiguous=True)


def note(home, shipper):
    """What other processes see."""
    return msgspec.json.decode(Spool(home).sink_path(shipper.debt.key).read_bytes(), type=SinkNote)


@pytest.mark.parametrize(
    ("ending", "dead"), [(Delivery.all_accepted, 0), (reject, 2)], ids=["taken", "dead"]
)
def test_suspects_are_counted_until_the_sink_has_spoken(home, clock, ending, dead):
    """They are offered again as they were, and once answered for they are suspect no more."""
    sink = ScriptedSink(down, lost, down, ending)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 2)
    seen = []
    for _ in range(4):
        pump(shipper)
        seen.append((len(shipper.suspects.since), note(home, shipper).suspect))
        clock.now += 60

    assert seen == [(0, 0), (2, 2), (2, 2), (0, 0)]
    assert sink.offered == [ids] * 4
    assert sink_row(home)["dead"] == dead
    journal.close()


def test_a_bug_in_a_sink_leaves_it_open(home, clock):
    """Nobody knows what it did before it raised."""
    sink = ScriptedSink(lambda batch: 1 / 0)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 3)
    pump(shipper)

    assert len(shipper.suspects.since) == 3
    journal.close()


@pytest.mark.parametrize(
    ("window", "sent_again"),
    [
        pytest.param(None, True, id="for ever"),
        pytest.param(timedelta(days=32), False, id="past the window"),
        pytest.param(timedelta(days=34), True, id="within the window"),
    ],
)
def test_what_the_sink_may_have_forgotten_is_kept_back(home, clock, window, sent_again):
    """It stays pending and suspect; events behind it go on."""
    sink = ScriptedSink(lost, lost, limits=SinkLimits(max_events=3, dedupe_window=window))
    journal = journal_for(home, sink, segment_bytes=1200)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 3)  # a segment
    pump(shipper)
    clock.now += 32 * DAY
    pump(shipper)  # the first time is what counts
    clock.now += DAY
    later = record(journal, 9)
    for _ in range(20):
        pump(shipper)

    assert set(sink.taken) == set(later) | (set(ids) if sent_again else set())
    assert len(shipper.suspects.since) == (0 if sent_again else 3)
    assert sink_row(home)["pending"] == (0 if sent_again else 3)
    assert sink.offered[:2] == [ids] * 2
    journal.close()
