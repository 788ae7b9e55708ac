"""Events that a sink may have: counted, sent again under the same ids, and not for ever."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport.dispatch import SinkNote
from llm_metering.transport.spool import Spool

from .harness import (
    ScriptedSink,
    down,
    journal_for,
    let_go,
    pump,
    record,
    reject,
    shipper_for,
    sink_row,
)

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


def reasons(home):
    """Why each dead letter is one."""
    return [
        msgspec.json.decode(line)["reason"]
        for path in (Spool(home).folder / "dead").glob("*.ndjson")
        for line in path.read_bytes().splitlines()
    ]


@pytest.mark.parametrize(
    ("window", "sent_again"),
    [
        pytest.param(None, True, id="for ever"),
        pytest.param(timedelta(days=32), False, id="past the window"),
        pytest.param(timedelta(days=34), True, id="within the window"),
    ],
)
def test_what_the_sink_may_have_forgotten_is_left_to_a_person(home, clock, window, sent_again):
    """It is set aside with the reason, and not sent; events behind it go on."""
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
    assert shipper.suspects.since == {}
    row = sink_row(home)
    assert (row["pending"], row["dead"]) == (0, 0 if sent_again else 3)
    assert ["may have counted it" in reason for reason in reasons(home)] == [True] * row["dead"]
    assert sink.offered[:2] == [ids] * 2
    journal.close()


def test_suspects_in_a_search_are_set_aside_too(home, clock):
    """A refused batch with events that the sink may have had: the search goes on with the others."""

    def refuse(batch):
        return Delivery.refuse(batch, "unknown meter")

    limits = SinkLimits(max_events=4, dedupe_window=timedelta(days=1))
    sink = ScriptedSink(lost, refuse, limits=limits)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 4)
    pump(shipper)
    clock.now += 60
    pump(shipper)
    clock.now += 2 * DAY
    later = record(journal, 4)
    for _ in range(9):
        pump(shipper)

    assert sink.taken == later
    assert sink_row(home)["dead"] == 4
    journal.close()


class Killed(BaseException):
    """What a `kill -9` looks like from within a test."""


def killed(batch):
    """The batch is on its way, and the process dies."""
    raise Killed


@pytest.mark.parametrize(
    ("last_words", "passed", "sent_again"),
    [
        pytest.param(lost, 2 * DAY, False, id="no answer, past the window"),
        pytest.param(lost, DAY / 2, True, id="no answer, within the window"),
        pytest.param(killed, 2 * DAY, False, id="killed while sending, past the window"),
        pytest.param(killed, DAY / 2, True, id="killed while sending, within the window"),
        pytest.param(down, 2 * DAY, True, id="the sink was down"),
        pytest.param(None, 2 * DAY, True, id="never sent"),
    ],
)
def test_whoever_adopts_events_knows_what_the_sink_may_have(
    home, clock, last_words, passed, sent_again
):
    """What a dead process sent, and had no answer for, is suspect in the hands of the next one."""
    limits = SinkLimits(max_events=2, dedupe_window=timedelta(days=1))
    first = ScriptedSink(
        Delivery.all_accepted, *([last_words] if last_words else []), limits=limits
    )
    journal = journal_for(home, first)
    shipper = shipper_for(journal, first, clock=clock)
    taken = record(journal, 2)
    pump(shipper)
    doubtful = record(journal, 2)
    if last_words is killed:
        with pytest.raises(Killed):
            pump(shipper)
    elif last_words:
        pump(shipper)
    untouched = record(journal, 2)
    let_go(journal, shipper)

    clock.now += passed
    second = ScriptedSink(limits=limits)
    journal = journal_for(home, second)
    shipper = shipper_for(journal, second, clock=clock)
    for _ in range(5):
        pump(shipper, adopt=True)

    assert first.taken == taken
    assert sorted(second.taken) == sorted(untouched + (doubtful if sent_again else []))
    assert shipper.suspects.since == {}
    row = sink_row(home)
    assert (row["pending"], row["dead"]) == (0, 0 if sent_again else 2)
    let_go(journal, shipper)


def test_a_doubt_ends_with_the_answer(home, clock):
    """Events that were lost on the way once and taken then are no suspects of the next process."""
    limits = SinkLimits(max_events=2, dedupe_window=timedelta(days=1))
    sink = ScriptedSink(lost, limits=limits)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 2)
    pump(shipper)
    clock.now += 60
    pump(shipper)
    later = record(journal, 2)
    let_go(journal, shipper)

    clock.now += 2 * DAY
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    pump(shipper, adopt=True)

    assert sink.taken[-2:] == later
    assert sink_row(home)["pending"] == 0
    let_go(journal, shipper)


@pytest.mark.parametrize(
    ("passed", "sent_again"), [(DAY - 60, True), (DAY + 60, False)], ids=["in time", "too late"]
)
def test_what_was_taken_behind_a_gap_is_suspect_to_the_next_process(
    home, clock, passed, sent_again
):
    """The place stops at the gap: what is behind it may be sent again only while the sink knows it."""
    limits = SinkLimits(dedupe_window=timedelta(days=1))
    first = ScriptedSink(lambda batch: Delivery.all_accepted(batch[1:]), limits=limits)
    journal = journal_for(home, first)
    shipper = shipper_for(journal, first, clock=clock)
    ids = record(journal, 3)
    pump(shipper)
    let_go(journal, shipper)

    clock.now += passed
    second = ScriptedSink(limits=limits)
    journal = journal_for(home, second)
    shipper = shipper_for(journal, second, clock=clock)
    for _ in range(5):
        pump(shipper, adopt=True)

    assert (first.taken, second.taken) == (ids[1:], ids if sent_again else [])
    row = sink_row(home)
    assert (row["acked"], row["dead"], row["pending"]) == ((3, 0, 0) if sent_again else (0, 3, 0))
    let_go(journal, shipper)


def test_a_gap_that_is_closed_leaves_no_suspects(home, clock):
    """Once the sink has had all of it, nothing is in doubt any more."""
    limits = SinkLimits(dedupe_window=timedelta(days=1))
    sink = ScriptedSink(lambda batch: Delivery.all_accepted(batch[1:]), limits=limits)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 3)
    for _ in range(2):
        pump(shipper)
        clock.now += 60
    later = record(journal, 2)
    let_go(journal, shipper)

    clock.now += 2 * DAY
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    for _ in range(5):
        pump(shipper, adopt=True)

    assert sink.taken[-2:] == later
    assert (sink_row(home)["acked"], sink_row(home)["dead"]) == (5, 0)
    let_go(journal, shipper)


def test_what_is_given_up_is_suspect_no_more(home, clock):
    """A sink that is owed more than its bound: of the events that went, nobody waits for an answer."""
    sink = ScriptedSink(lost, *[down] * 99)
    earlier = journal_for(home, sink, segment_bytes=2_000)
    left = len(record(earlier, 10))
    let_go(earlier)
    journal = journal_for(home, sink, segment_bytes=2_000)
    shipper = shipper_for(journal, sink, clock=clock, backlog_bytes=15_000)
    record(journal, 5)
    pump(shipper, adopt=True)  # our own go first

    seen = set()
    while (dropped := sink_row(home)["dropped"]) <= left:
        seen.add((dropped, len(shipper.suspects.since), note(home, shipper).suspect))
        record(journal)
        pump(shipper)

    assert seen == {(0, 5, 5), (5, 5, 5), (10, 5, 5)}
    assert (dropped, len(shipper.suspects.since), note(home, shipper).suspect) == (15, 0, 0)
    let_go(journal, shipper)
