"""A long backlog: what is read, offered and counted of it once, and no more often."""

from __future__ import annotations

import pytest

from llm_metering.events import encode
from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport import segment_counts
from llm_metering.transport.frames import WINDOW, Kind, encode_frame, read_frames
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status
from tests.factories import make_event

from .harness import (
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    shipper_for,
    sink_row,
)


def all_but(stubborn):
    """A server that is never ready for some events."""

    def answer(batch):
        taken = frozenset(each.id for each in batch) - stubborn
        return Delivery(
            accepted=taken, retryable=frozenset(each.id for each in batch) & stubborn, reason="no"
        )

    return answer


@pytest.mark.parametrize(
    "places", [pytest.param([0], id="the first"), pytest.param([1, 3], id="some in the middle")]
)
def test_an_event_that_has_to_wait_holds_up_none_behind_it(home, clock, places):
    """The others of its segment go on in full batches, and its place is still the first."""
    sink = ScriptedSink(limits=SinkLimits(max_events=3))
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 12)
    stubborn = frozenset(ids[place] for place in places)
    sink.answers.extend([all_but(stubborn)] * 20)
    for _ in range(20):
        pump(shipper)
        clock.now += 100

    assert sink.taken == [each for each in ids if each not in stubborn]
    assert sink_row(home)["acked"] == places[0]

    sink.answers.clear()
    empty(shipper)
    assert sorted(sink.taken) == sorted(ids)
    assert sink_row(home) == {"recorded": 12, "acked": 12, "pending": 0, "dead": 0, "dropped": 0}
    journal.close()


def test_events_that_die_behind_one_that_waits_are_dead_in_the_end(home, clock):
    """What is settled behind a gap is counted as what it was when the gap closes."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    first, second, third = record(journal, 3)
    verdict = Delivery(
        accepted=frozenset({third}),
        retryable=frozenset({first}),
        rejected=frozenset({(second, "unknown meter")}),
    )
    sink.answers.append(lambda _: verdict)
    pump(shipper)
    assert sink_row(home)["pending"] == 3
    clock.now += 100

    empty(shipper)

    assert sink.offered == [[first, second, third], [first]]
    assert sink_row(home) == {"recorded": 3, "acked": 2, "pending": 0, "dead": 1, "dropped": 0}
    journal.close()


def test_a_segment_that_a_sink_still_needs_is_not_counted(home, clock, monkeypatch):
    """While one sink is down, the other's segments are not read again and again."""
    healthy, stuck = ScriptedSink(name="healthy"), ScriptedSink(*[down] * 50, name="stuck")
    journal = journal_for(home, healthy, stuck, segment_bytes=1)
    shipper = shipper_for(journal, healthy, clock=clock)
    ids = record(journal, 12)
    counted = []
    real = segment_counts.count_segment
    monkeypatch.setattr(segment_counts, "count_segment", lambda *a: counted.append(a) or real(*a))

    empty(shipper, adopt=True)

    assert healthy.taken == ids
    assert counted == []
    assert len(Spool(home).segments()) == 12
    journal.close()


def test_segments_that_were_read_are_counted_as_they_were_read(home, clock, monkeypatch):
    """Events, flags and notes of a backlog reach the sums without a second reading."""
    sink = ScriptedSink()
    journal = journal_for(home, sink, segment_bytes=1)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 9)
    flagged = make_event(flags=("usage_inconsistent", "unknown_keys:a"))
    journal.record(flagged.id, encode(flagged))
    journal.count("failures", "on_llm_end", 3)
    record(journal, 1)
    expected = home_status(home)
    monkeypatch.setattr(segment_counts, "count_segment", lambda *_: pytest.fail("read again"))

    empty(shipper)
    monkeypatch.undo()

    assert len(Spool(home).segments()) == 1, "the one that is being written"
    status = home_status(home)
    assert status["flags"] == expected["flags"] | {"usage_inconsistent": 1, "unknown_keys": 1}
    assert (status["recorded"], status["failures"]) == (11, 3)
    assert sink_row(home)["acked"] == 11
    journal.close()


def test_an_adopted_segment_is_counted_from_its_beginning(home, clock):
    """Whoever took over in its middle has not seen all that is to be counted."""
    sink = ScriptedSink(limits=SinkLimits(max_events=2))
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    record(journal, 5)
    pump(shipper)
    let_go(journal, shipper)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert Spool(home).segments() == []
    assert sink_row(home) == {"recorded": 5, "acked": 5, "pending": 0, "dead": 0, "dropped": 0}


def test_open_calls_are_those_that_no_later_segment_ends(home):
    """Notes are carried along into new segments, and each call is counted once."""
    journal = journal_for(home, segment_bytes=1)
    ended, open_ = note_open(journal), note_open(journal)
    record(journal, 3)
    journal.note_closed(ended)
    record(journal, 2)

    assert home_status(home)["open_calls"] == 1
    assert open_ != ended
    journal.close()


@pytest.mark.parametrize("size", [1, WINDOW - 12, WINDOW, 3 * WINDOW], ids=str)
def test_a_frame_of_any_size_is_read(size):
    """One that is larger than what is read at once is read as well."""
    content = encode_frame(Kind.EVENT, b"a") + encode_frame(Kind.EVENT, b"b" * size)

    def read(wanted, offset):
        return content[offset : offset + wanted]

    payloads, offset = [], 0
    while (parsed := read_frames(read, offset, len(content))).frames:
        payloads += [frame.payload for frame in parsed.frames]
        offset = parsed.end

    assert payloads == [b"a", b"b" * size]
    assert offset == len(content)
