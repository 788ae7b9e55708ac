"""Shippers: everything arrives, under one id, whatever the sink answers."""

from __future__ import annotations

import json
import logging

import pytest

from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport.policy import LINGER
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    down,
    empty,
    journal_for,
    pump,
    record,
    shipper_for,
    sink_row,
    unique,
)


def test_every_retry_has_the_same_ids(home, clock):
    """A batch that was not taken is offered again as it was, for ever."""
    sink = ScriptedSink(*[down] * 20)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 3)

    while not pump(shipper):
        clock.now += 60

    assert sink.offered == [ids] * 21
    assert sink_row(home) == {"recorded": 3, "acked": 3, "pending": 0, "dead": 0, "dropped": 0}
    assert home_status(home)["sinks"][0]["retries"] == 20
    journal.close()


def test_a_part_that_was_accepted_is_not_sent_again(home, clock):
    """Only what is still owed is offered again, and nothing of it is forgotten."""

    def every_second(batch):
        ids = [each.id for each in batch]
        return Delivery(accepted=frozenset(ids[::2]), retryable=frozenset(ids[1::2]), reason="busy")

    sink = ScriptedSink(*[every_second] * 3)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 8)

    while not pump(shipper):
        assert shipper.own_settled <= len(sink.taken)
        clock.now += 60

    assert sink.offered == [ids, ids[1::2], ids[3::4], ids[7:]]
    assert unique(sink.taken) == unique(ids)
    assert (shipper.own_settled, sink_row(home)["acked"]) == (8, 8)
    journal.close()


def test_silence_is_no_consent(home, clock):
    """What a sink's answer does not speak of is offered again."""
    sink = ScriptedSink(
        lambda batch: Delivery(accepted=frozenset([batch[0].id])), lambda batch: Delivery()
    )
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 2)

    pump(shipper)
    assert (shipper.standing.state, shipper.own_settled) == ("backoff", 1)
    assert "1 events of 2" in shipper.standing.reason
    for _ in range(2):
        clock.now += 60
        pump(shipper)

    assert sink.offered == [ids, ids[1:], ids[1:]]
    assert sink_row(home)["acked"] == 2
    journal.close()


def test_a_rejected_event_is_kept_as_a_dead_letter(home, clock):
    """What a sink will never take is in a file, with the reason, and counted once."""

    def not_the_second(batch):
        ids = [each.id for each in batch]
        rejected = frozenset([(ids[1], "no such meter")])
        return Delivery(accepted=frozenset(ids) - {ids[1]}, rejected=rejected)

    sink = ScriptedSink(not_the_second)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 3)
    pump(shipper)
    record(journal)
    pump(shipper)

    assert sink_row(home) == {"recorded": 4, "acked": 3, "pending": 0, "dead": 1, "dropped": 0}
    (line,) = Spool(home).dead_letters_path(shipper.debt.key).read_text().splitlines()
    letter = json.loads(line)
    assert (letter["event"]["id"], letter["reason"]) == (ids[1], "no such meter")
    assert shipper.standing.state == "ok"

    journal.close()
    pump(shipper)
    assert sink_row(home)["dead"] == 1
    assert Spool(home).segments() == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda batch: 1 / 0, id="raises"),
        pytest.param(lambda batch: None, id="answers nothing"),
        pytest.param(lambda batch: ["accepted"], id="answers nonsense"),
    ],
)
def test_a_broken_sink_costs_nothing(home, clock, caplog, answer):
    """A sink that has a bug is one that is down, and its words are not repeated."""

    class Broken(ScriptedSink):
        broken = True

        def deliver(self, batch, /):
            self.offered.append([each.id for each in batch])
            return answer(batch) if self.broken else Delivery.all_accepted(batch)

    sink = Broken()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            pump(shipper)
            clock.now += 1
    assert shipper.standing.state == "backoff"
    assert shipper.standing.reason.endswith("Error in the sink")
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None

    sink.broken = False
    clock.now += 60
    pump(shipper)
    assert (shipper.own_settled, shipper.standing.state) == (2, "ok")
    journal.close()


def test_a_paused_sink_says_why_and_is_probed(home, clock):
    """What only a person can mend is shown, keeps everything, and mends itself when it can."""
    refusal = lambda batch: Delivery.try_later(batch, "401 Unauthorized", hold=True)  # noqa: E731
    sink = ScriptedSink(refusal, refusal)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal)
    pump(shipper)
    row = home_status(home)["sinks"][0]
    assert (row["state"], row["reason"], row["pending"]) == ("paused", "401 Unauthorized", 1)

    clock.now += 59
    pump(shipper)
    assert len(sink.offered) == 1
    clock.now += 1
    pump(shipper)
    assert len(sink.offered) == 2
    clock.now += 60
    pump(shipper)

    assert sink.taken == ids
    assert home_status(home)["sinks"][0]["state"] == "ok"
    journal.close()


def test_batches_keep_to_the_sinks_limits(home, clock):
    """No batch is larger than the sink takes, but an event that is too large goes alone."""
    sink = ScriptedSink(limits=SinkLimits(max_events=3))
    small = ScriptedSink(name="small", limits=SinkLimits(max_bytes=1))
    journal = journal_for(home, sink, small)
    ids = record(journal, 7)
    for each in (sink, small):
        shipper = shipper_for(journal, each, clock=clock)
        empty(shipper)

    assert sink.offered == [ids[:3], ids[3:6], ids[6:]]
    assert small.offered == [[each] for each in ids]
    journal.close()


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(SinkLimits(max_events=2), id="events"),
        pytest.param(SinkLimits(max_bytes=1000), id="bytes"),
    ],
)
def test_a_full_batch_does_not_wait_for_company(home, clock, limits):
    """Whichever limit a batch meets, it goes at once; the rest waits its second."""
    sink = ScriptedSink(limits=limits)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 3)

    waits = [shipper._pump.once(urgent=False, adopt=False) for _ in range(2)]
    assert (len(sink.taken), waits) == (2, [0.0, LINGER])
    clock.now += LINGER
    assert shipper._pump.once(urgent=False, adopt=False) == 0.0
    assert shipper._pump.once(urgent=False, adopt=False) is None
    assert len(sink.taken) == 3
    journal.close()
