"""Segments of dead processes whose events are refused: they keep none of the others waiting."""

from __future__ import annotations

import pytest

from llm_metering.sinks.base import Delivery
from llm_metering.transport.backlog import HELD_AT_ONCE
from llm_metering.transport.triage import GUARD

from .harness import (
    ScriptedSink,
    ids_on_disk,
    journal_for,
    let_go,
    pump,
    record,
    shipper_for,
    sink_row,
)


class Picky(ScriptedSink):
    """Refuses a batch that holds a poisoned event."""

    def __init__(self):
        super().__init__()
        self.poison = set()

    def deliver(self, batch, /):
        self.answers.append(self.judge)
        return super().deliver(batch)

    def judge(self, batch):
        if self.poison.isdisjoint(each.id for each in batch):
            return Delivery.all_accepted(batch)
        return Delivery.refuse(batch, "400 Bad Request")


@pytest.fixture
def sink():
    """A sink that refuses what is poisoned."""
    return Picky()


def orphans(home, sink, count):
    """The events of so many processes that recorded one each and died, as they will be come to."""
    for _ in range(count):
        journal = journal_for(home, sink)
        record(journal)
        let_go(journal)
    return ids_on_disk(home)


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(HELD_AT_ONCE - 1, id="fewer than are taken at once"),
        pytest.param(HELD_AT_ONCE, id="as many"),
        pytest.param(HELD_AT_ONCE + 1, id="more"),
        pytest.param(GUARD + HELD_AT_ONCE - 1, id="a paused sink"),
    ],
)
def test_what_is_refused_keeps_no_other_segment_waiting(home, clock, sink, refused):
    """However many hold nothing but a refused event: the one behind them is sent, and those die."""
    *poison, good = orphans(home, sink, refused + 1)
    sink.poison |= set(poison)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)

    for _ in range(200):
        if pump(shipper, adopt=True):
            break
        clock.now += 3600

    assert sink.taken == [good]
    row = sink_row(home)
    # What is refused after the last one that was taken may be so for the server's sake.
    assert row["dead"] == min(refused, GUARD)
    let_go(journal, shipper)


def test_the_files_that_are_open_are_bounded_all_the_same(home, clock, sink):
    """A process that died of each of its events leaves more segments than there are descriptors."""
    sink.poison |= set(orphans(home, sink, 2 * (GUARD + HELD_AT_ONCE)))
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)

    most = 0
    for _ in range(100):
        pump(shipper, adopt=True)
        most = max(most, len(shipper._pump.backlog))
        clock.now += 3600

    assert most == GUARD + HELD_AT_ONCE
    assert sink_row(home)["dead"] == 0, "nothing was taken: it may be the server"
    let_go(journal, shipper)
