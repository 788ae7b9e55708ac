"""Replays: all of a time range, oldest first, each once, whatever the sink answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.events import encode
from llm_metering.ledger import Ledger
from llm_metering.sinks.base import Delivery, Envelope, SinkLimits
from llm_metering.transport.dead_letters import write_dead_letters
from llm_metering.transport.frames import Kind, encode_frame
from llm_metering.transport.journal import Journal
from llm_metering.transport.kept import kept_segments
from llm_metering.transport.operations import (
    JournalRecords,
    LedgerRecords,
    Replayed,
    replay,
    retry_letters,
)
from llm_metering.transport.operations import replaying as replaying_module
from llm_metering.transport.operations.time_order import Entry, TimeOrder
from llm_metering.transport.spool import Spool, debt_of
from llm_metering.transport.status import home_status
from tests.factories import make_event

from .harness import FakeClock, ScriptedSink, down, empty, journal_for, let_go, reject, shipper_for

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def at(minutes, **changes):
    """An event so many minutes after noon."""
    return make_event(time=NOON + timedelta(minutes=minutes), **changes)


def in_ledger(home, events):
    """A ledger with those events."""
    ledger = Ledger(home / "ledger.db")
    delivery = ledger.deliver([Envelope(each.id, encode(each)) for each in events])
    assert len(delivery.accepted) == len(events)
    return ledger


def in_journal(home, events, *, keep=True, sink=None):
    """A dead process's segment with those events, kept after it was delivered, or still there."""
    sink = sink or ScriptedSink()
    journal = journal_for(home, sink)
    for each in events:
        journal.record(each.id, encode(each))
    let_go(journal)
    if keep:
        empty(shipper_for(journal_for(home, sink), sink), adopt=True)


def from_ledger(home, events, start=None, end=None):
    """The events of a period, out of a ledger."""
    return LedgerRecords(in_ledger(home, events), source="tests", start=start, end=end)


def from_journal(home, events, start=None, end=None):
    """The events of a period, out of kept and present segments."""
    in_journal(home, events[::2])
    in_journal(home, events[1::2], keep=False)
    return JournalRecords(Spool(home), source="tests", start=start, end=end)


def run(records, sink, *, timeout=60.0, clock=None, **options) -> Replayed:
    """A replay whose time passes only while it waits."""
    clock = clock or FakeClock()

    def sleep(seconds):
        clock.now += seconds

    return replay(
        records, sink, timeout=timeout, clock=clock, sleep=sleep, chance=lambda: 1.0, **options
    )


@pytest.fixture(params=[from_ledger, from_journal], ids=["ledger", "journal"])
def recorded(request, home):
    """Make records of events, from either place."""
    made = []

    def make(events, start=None, end=None):
        made.append(request.param(home, events, start, end))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_all_of_it_arrives_oldest_first(recorded):
    """Whatever the order in which they were recorded, and in batches that the sink can take."""
    events = [at(minute) for minute in (7, 3, 9, 1, 5, 2, 8, 0, 6, 4)]
    sink = ScriptedSink(limits=SinkLimits(max_events=4))

    replayed = run(recorded(events), sink)

    assert sink.taken == [each.id for each in sorted(events, key=lambda each: each.time)]
    assert [len(batch) for batch in sink.offered] == [4, 4, 2]
    assert replayed == Replayed(
        events=10, taken=10, rejected=0, rejections=(), gone=0, next_since=None, reason=None
    )
    assert replayed.complete


def test_payloads_are_what_was_recorded(recorded):
    """Byte for byte, so that a sink recognises them."""
    events = [at(minute) for minute in range(4)]
    seen = {}

    def look(batch: Sequence[Envelope]) -> Delivery:
        seen.update({each.id: each.payload for each in batch})
        return Delivery.all_accepted(batch)

    run(recorded(events), ScriptedSink(look))

    assert seen == {each.id: encode(each) for each in events}


def test_a_period_is_half_open(recorded):
    """What was at its first moment belongs to it, what was at its end does not."""
    events = [at(minute) for minute in range(6)]
    sink = ScriptedSink()

    run(recorded(events, NOON + timedelta(minutes=1), NOON + timedelta(minutes=4)), sink)

    assert sink.taken == [each.id for each in events[1:4]]


def test_other_applications_are_left_out(recorded, home):
    """Events of another source are not this application's to send."""
    mine, theirs = at(1), at(2, source="theirs")
    records = recorded([mine])
    in_ledger(home, [theirs])
    journal = Journal(Spool(home), source="theirs", debts=[debt_of(ScriptedSink())])
    journal.record(theirs.id, encode(theirs))
    let_go(journal)
    sink = ScriptedSink()
    again = type(records)(
        in_ledger(home, []) if isinstance(records, LedgerRecords) else Spool(home),
        source="tests",
        start=None,
        end=None,
    )

    run(again, sink)

    again.close()
    assert sink.taken == [mine.id]


def test_memory_holds_a_few_batches(recorded):
    """However many events there are, and however long the sink is away."""
    events = [at(number / 1000) for number in range(3000)]
    records = recorded(events)
    sink = ScriptedSink(down, down, limits=SinkLimits(max_events=10))
    most = 0
    last = None

    def read(self_last, limit):
        nonlocal most, last
        found = type(records).read(records, self_last, limit)
        most, last = max(most, len(found)), self_last
        return found

    records.read = read
    replayed = run(records, sink)

    assert (replayed.taken, most) == (3000, 10)
    assert len(sink.taken) == 3000


def test_what_is_away_is_tried_again(recorded):
    """With growing waits, for as long as the time allows, under the same ids."""
    events = [at(minute) for minute in range(3)]
    clock = FakeClock()
    sink = ScriptedSink(*[down] * 4)

    replayed = run(recorded(events), sink, clock=clock)

    assert replayed.complete
    assert sink.offered == [[each.id for each in events]] * 5
    # 0.5, 1, 2, 4 seconds.
    assert clock.now == pytest.approx(1000 + 7.5, abs=0.01)


def test_time_counts_from_the_last_event_taken(recorded):
    """A sink that takes something may go on for ever; one that takes nothing, until time is up."""
    events = [at(minute) for minute in range(40)]
    clock = FakeClock()

    def slow(batch):
        clock.now += 50
        return Delivery.all_accepted(batch)

    sink = ScriptedSink(*[slow] * 20, *[down] * 1000, limits=SinkLimits(max_events=1))

    replayed = run(recorded(events), sink, clock=clock, timeout=60)

    assert (replayed.taken, replayed.next_since) == (20, events[20].time)
    assert replayed.reason == "unreachable"
    assert 2000 < clock.now <= 2060


def test_a_server_is_not_asked_before_it_wants(recorded):
    """`Retry-After` is waited for, and ends the replay where it is longer than the time."""
    events = [at(minute) for minute in range(3)]

    def later(seconds):
        return lambda batch: Delivery.try_later(batch, "503", retry_after=seconds)

    clock, sink = FakeClock(), ScriptedSink(later(30), later(300))
    replayed = run(recorded(events), sink, clock=clock)

    assert (len(sink.offered), clock.now) == (2, pytest.approx(1030, abs=0.01))
    assert (replayed.taken, replayed.reason) == (0, "503")
    assert replayed.next_since == events[0].time


def test_what_a_person_has_to_mend_ends_it_at_once(recorded):
    """Nobody waits a minute to try a wrong key again."""
    clock = FakeClock()
    sink = ScriptedSink(lambda batch: Delivery.try_later(batch, "401 Unauthorized", hold=True))

    replayed = run(recorded([at(1)]), sink, clock=clock)

    assert (replayed.reason, clock.now) == ("401 Unauthorized", 1000)
    assert replayed.next_since == at(1).time


def test_it_goes_on_where_it_ended(home):
    """From the time that it says, a second replay brings all that is missing."""
    events = [at(minute) for minute in range(30)]
    sink = ScriptedSink(
        Delivery.all_accepted,
        lambda batch: Delivery.all_accepted(batch[5:]),  # of the first five it says nothing
        *[down] * 100,
        limits=SinkLimits(max_events=10),
    )
    first = run(from_ledger(home, events), sink)
    assert (first.taken, first.next_since) == (15, events[10].time)
    sink.answers.clear()

    second = run(from_ledger(home, events, first.next_since), sink)

    assert second.complete
    assert set(sink.taken) == {each.id for each in events}


def test_a_refused_batch_is_searched(recorded, home):
    """One event to blame is found and reported; all others arrive, and nothing is written."""
    events = [at(minute) for minute in range(50)]
    poisoned = events[17].id

    def judge(batch):
        if any(each.id == poisoned for each in batch):
            return Delivery.refuse(batch, "400 Bad Request")
        return Delivery.all_accepted(batch)

    sink = ScriptedSink(*[judge] * 100, limits=SinkLimits(max_events=16))
    replayed = run(recorded(events), sink)

    assert (replayed.taken, replayed.rejected, replayed.gone) == (49, 1, 0)
    assert [(each.id, each.reason) for each in replayed.rejections] == [
        (poisoned, "400 Bad Request")
    ]
    assert (replayed.next_since, replayed.complete) == (None, False)
    assert not (Spool(home).folder / "dead").exists()


def test_events_refused_for_different_reasons_are_told_apart(recorded):
    """Another answer shows that the server looks at events one by one: the first one is to blame."""
    events = [at(minute) for minute in range(2)]

    def judge(batch):
        reason = "400 unknown meter" if batch[0].id == events[0].id else "400 no subject"
        return Delivery.refuse(batch, reason)

    replayed = run(recorded(events), ScriptedSink(*[judge] * 20))

    assert [(each.id, each.reason) for each in replayed.rejections] == [
        (events[0].id, "400 unknown meter")
    ]
    assert (replayed.taken, replayed.next_since) == (0, events[1].time)
    assert replayed.reason.startswith("400 no subject")


def test_a_server_that_refuses_everything_gets_the_blame(recorded):
    """No event is called bad: it ends, and says where."""
    events = [at(minute) for minute in range(50)]
    sink = ScriptedSink(*[lambda batch: Delivery.refuse(batch, "400 Bad Request")] * 1000)

    replayed = run(recorded(events), sink)

    assert (replayed.taken, replayed.rejected) == (0, 0)
    assert replayed.next_since == events[0].time
    assert replayed.reason.startswith("400 Bad Request")


def test_a_single_event_that_is_refused_is_left(recorded):
    """With nothing else to compare it with, nobody knows who is to blame."""
    sink = ScriptedSink(*[lambda batch: Delivery.refuse(batch, "400 Bad Request")] * 10)

    replayed = run(recorded([at(1)]), sink)

    assert (replayed.rejected, replayed.next_since) == (0, at(1).time)
    assert replayed.reason.startswith("400 Bad Request")


def test_what_a_sink_rejects_by_itself_is_reported(recorded, monkeypatch):
    """Named up to a number, and counted beyond it."""
    monkeypatch.setattr(replaying_module, "REPORTED", 2)
    events = [at(minute) for minute in range(5)]

    replayed = run(recorded(events), ScriptedSink(reject))

    assert (replayed.rejected, len(replayed.rejections)) == (5, 2)
    assert replayed.next_since is None


def test_a_sink_that_fails_is_tried_again(recorded):
    """A bug in a sink is an answer that never came; its message is not repeated."""

    def fail(batch):
        raise ValueError("the prompt was hush")

    sink = ScriptedSink(fail)
    assert run(recorded([at(1)]), sink).complete
    replayed = run(recorded([at(1)]), ScriptedSink(*[fail] * 1000), timeout=5)
    assert replayed.reason == "ValueError in the sink"


@pytest.mark.parametrize("how", ["asked", "interrupted"])
def test_whoever_ends_it_learns_where(recorded, how):
    """Ctrl-C says from when to go on, so that nothing is left out."""
    events = [at(minute) for minute in range(30)]
    asked = []

    def interrupt(batch):
        if how == "interrupted":
            raise KeyboardInterrupt
        asked.append(True)
        return down(batch)

    sink = ScriptedSink(Delivery.all_accepted, interrupt, limits=SinkLimits(max_events=10))
    replayed = run(recorded(events), sink, should_stop=lambda: bool(asked))

    assert (replayed.taken, replayed.reason) == (10, "interrupted")
    assert replayed.next_since == events[10].time


def test_the_end_was_asked_for_between_two_batches(recorded):
    """What is settled is settled; the next one is where to go on."""
    events = [at(minute) for minute in range(30)]
    sink = ScriptedSink(limits=SinkLimits(max_events=10))

    replayed = run(recorded(events), sink, should_stop=lambda: len(sink.offered) == 2)

    assert (replayed.taken, replayed.next_since) == (20, events[20].time)


def test_the_sinks_own_status_does_not_move(recorded, home):
    """A replay is in no count, and in no file: neither what was recorded, nor what a sink has."""
    records = recorded([at(minute) for minute in range(6)])
    later = NOON + timedelta(days=1)
    before = home_status(home, now=later)
    files = {path: path.stat().st_mtime_ns for path in home.glob("journal/**/*")}

    run(records, ScriptedSink(reject, down))

    assert home_status(home, now=later) == before
    assert {path: path.stat().st_mtime_ns for path in home.glob("journal/**/*")} == files


def test_progress_is_told(recorded):
    """Events settled, as they are."""
    told = []
    sink = ScriptedSink(Delivery.all_accepted, reject, limits=SinkLimits(max_events=2))

    run(recorded([at(minute) for minute in range(5)]), sink, on_progress=told.append)

    assert told == [2, 4, 5]


def test_a_retried_event_is_offered_once(home):
    """An event that died and was put back is in two segments, and is one."""
    sink = ScriptedSink(reject)
    events = [at(minute) for minute in range(3)]
    in_journal(home, events, sink=sink)
    assert sum(retry_letters(Spool(home)).events.values()) == 3
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    assert len(kept_segments(Spool(home))) == 2
    records = JournalRecords(Spool(home), source="tests", start=None, end=None)
    again = ScriptedSink()

    replayed = run(records, again)

    records.close()
    assert (replayed.events, again.taken) == (3, [each.id for each in events])


def test_more_segments_than_may_be_open(home, monkeypatch):
    """Events of many processes lie side by side in time; few files are open at once."""
    from llm_metering.transport.operations import recorded

    monkeypatch.setattr(recorded, "_OPEN_AT_ONCE", 2)
    events = [at(minute) for minute in range(12)]
    for number in range(4):
        in_journal(home, events[number::4])
    records = JournalRecords(Spool(home), source="tests", start=None, end=None)
    sink = ScriptedSink()

    run(records, sink)

    assert sink.taken == [each.id for each in events]
    assert len(records._open) == 2
    records.close()


def test_segments_may_move_and_go_meanwhile(home):
    """One that is kept meanwhile is found; one that is too old by then is counted as gone."""
    stays, goes = [at(0), at(2)], [at(1), at(3)]
    in_journal(home, stays, keep=False)
    sink = ScriptedSink()
    records = JournalRecords(Spool(home), source="tests", start=None, end=None)
    assert records.total == 2
    records.close()
    in_journal(home, goes, keep=False)
    spool = Spool(home)
    records = JournalRecords(spool, source="tests", start=None, end=None)
    first, second = spool.segments()
    spool.kept_folder.mkdir()
    spool.segment_path(first).rename(spool.kept_path(first))
    spool.segment_path(second).unlink()

    replayed = run(records, sink)

    records.close()
    assert sink.taken == [each.id for each in stays]
    assert (replayed.taken, replayed.gone, replayed.complete) == (2, 2, False)
    assert replayed.next_since is None


def test_what_cannot_be_read_is_counted(home):
    """Records without an id or a time, segments without a header: told, not hidden."""
    in_journal(home, [at(0)])
    journal = journal_for(home)
    journal._place.writer.append(encode_frame(Kind.EVENT, b'{"id": "x"}'), ())
    journal._place.writer.append(encode_frame(Kind.EVENT, b"{}"), ())
    let_go(journal)
    spool = Spool(home)
    (spool.folder / "other.000000.seg").write_bytes(b"\xff" * 100)

    records = JournalRecords(spool, source="tests", start=None, end=None)

    assert (records.total, records.unreadable) == (1, 3)
    records.close()


def test_a_ledger_that_fails_meanwhile_says_how_far_it_was(home):
    """What was settled is told, although no more can be read."""
    events = [at(minute) for minute in range(30)]
    records = from_ledger(home, events)
    sink = ScriptedSink(limits=SinkLimits(max_events=10))

    def spoil(done):
        if done == 10:
            for name in ("ledger.db", "ledger.db-wal"):
                (home / name).write_bytes(b"no database" * 1000)

    replayed = run(records, sink, on_progress=spoil)

    records.close()
    assert (replayed.taken, replayed.next_since) == (10, events[9].time)
    assert "ledger" in replayed.reason


def test_nobody_waits_for_a_reader(home):
    """While a replay waits for its sink, another process writes the ledger and folds its log."""
    records = from_ledger(home, [at(minute) for minute in range(20)])

    def write(batch):
        in_ledger(home, [at(99)]).close()
        with Ledger(home / "ledger.db")._handle.writing() as connection:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
        return Delivery.all_accepted(batch)

    sink = ScriptedSink(write, write, limits=SinkLimits(max_events=10))
    assert run(records, sink).taken == 20
    records.close()


def test_moments_come_in_pieces(home, monkeypatch):
    """A ledger of any size is read a piece at a time, and all of it."""
    from llm_metering.ledger import _events

    monkeypatch.setattr(_events, "_MOMENTS", _events._MOMENTS.replace("LIMIT 10000", "LIMIT 3"))
    events = [at(minute) for minute in range(10)]
    ledger = in_ledger(home, events)

    found = list(ledger.moments(NOON, NOON + timedelta(minutes=8), source="tests"))

    ledger.close()
    assert sorted(each for each, _ in found) == sorted(each.id for each in events[:8])


def test_an_empty_home_has_nothing(home):
    """Neither a ledger nor a journal: no event, and nothing is made."""
    ledger = LedgerRecords(Ledger(home / "ledger.db"), source="tests", start=None, end=None)
    journal = JournalRecords(Spool(home), source="tests", start=None, end=None)

    assert run(ledger, ScriptedSink()).complete
    assert run(journal, ScriptedSink()).complete
    ledger.close()
    journal.close()
    assert list(home.iterdir()) == []


def test_order_is_by_time_then_id():
    """Events of one moment are told apart, and none is passed over between two pieces."""
    order = TimeOrder()
    order.fill(
        Entry(time, each)
        for time, each in [(2, "b"), (1, "z"), (2, "a"), (1, "y"), (1, "z"), (9, "y")]
    )
    found, last = [], None
    while piece := order.after(last, 1):
        found += piece
        last = piece[-1]

    assert [(each.time, each.id) for each in found] == [(1, "y"), (1, "z"), (2, "a"), (2, "b")]
    assert order.total == 4
    order.close()


def test_a_dead_letter_is_of_no_concern(home):
    """What a sink refused before is offered like everything else."""
    event = at(1)
    sink = ScriptedSink()
    records = from_ledger(home, [event])
    Spool(home).make()
    write_dead_letters(
        Spool(home),
        debt_of(sink),
        [Envelope(event.id, encode(event))],
        Delivery(rejected=frozenset({(event.id, "no")})),
    )

    assert run(records, sink).complete
    records.close()
