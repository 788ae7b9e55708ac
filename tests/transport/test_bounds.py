"""What a sink may be owed on disk: told near the bound, and beyond it given up, for that sink alone."""

from __future__ import annotations

from llm_metering import Meter, TokenUsage
from llm_metering.transport.alarms import Alarms
from llm_metering.transport.bounds import owed_bytes
from llm_metering.transport.spool import Spool, debt_of
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    reject,
    shipper_for,
    unique,
)

SEGMENT = 2_000
BOUND = 10 * SEGMENT


class Told(list):
    """What a person was told."""

    def kinds(self):
        return [problem.kind for problem in self]


def bounded(home, *sinks):
    """A journal of small segments, a shipper for each sink with a bound, and what they tell."""
    told = Told()
    alarms = Alarms(told.append)
    journal = journal_for(home, *sinks, segment_bytes=SEGMENT, alarms=alarms)
    shippers = [shipper_for(journal, sink, alarms=alarms, backlog_bytes=BOUND) for sink in sinks]
    return journal, shippers, told


def rows(home):
    """Each sink's figures."""
    keys = ("recorded", "acked", "pending", "dropped")
    return {row["name"]: tuple(row[key] for key in keys) for row in home_status(home)["sinks"]}


def test_the_oldest_events_of_a_stuck_sink_are_given_up(home):
    """Beyond the bound the oldest go, for the sink that is behind; a healthy one has them all."""
    stuck, healthy = ScriptedSink(*[down] * 99, name="stuck"), ScriptedSink(name="healthy")
    journal, shippers, told = bounded(home, stuck, healthy)
    ids = []
    for _ in range(20):
        ids += record(journal, 5)
        for shipper in shippers:
            pump(shipper)

    assert healthy.taken == ids
    assert owed_bytes(Spool(home), debt_of(stuck)) <= BOUND + SEGMENT
    recorded, acked, pending, dropped = rows(home)["stuck"]
    assert (recorded, acked) == (100, 0)
    assert 0 < dropped < 100
    assert pending == 100 - dropped
    assert rows(home)["healthy"] == (100, 100, 0, 0)
    assert home_status(home)["dropped"] == {"disk_full": 0, "backlog_full": dropped}
    assert set(told.kinds()) == {"backlog", "shed"}
    assert {problem.sink for problem in told} == {"stuck"}

    stuck.answers.clear()
    shippers[0]._pump.dispatch.next_try = 0.0
    empty(shippers[0])
    assert rows(home)["stuck"] == (100, len(stuck.taken), 0, 100 - len(stuck.taken))
    assert stuck.taken == ids[-len(stuck.taken) :]
    assert shippers[0].own_settled == journal.recorded == 100
    let_go(journal, *shippers)


def test_near_the_bound_a_person_is_told_before_anything_is_lost(home):
    """From four fifths of the bound on it is said, once."""
    stuck = ScriptedSink(*[down] * 99, name="stuck")
    journal, (shipper,), told = bounded(home, stuck)
    while owed_bytes(Spool(home), debt_of(stuck)) < 0.85 * BOUND:
        record(journal)
        pump(shipper)

    assert told.kinds() == ["backlog"]
    assert rows(home)["stuck"][3] == 0
    let_go(journal, shipper)


def test_what_dead_processes_left_is_given_up_first(home):
    """The oldest events are those of earlier processes."""
    stuck = ScriptedSink(*[down] * 99, name="stuck")
    journal, (shipper,), _ = bounded(home, stuck)
    record(journal, 10)
    let_go(journal, shipper)
    journal, (shipper,), _ = bounded(home, stuck)
    mine = []
    while rows(home).get("stuck", (0,) * 4)[3] == 0:
        mine += record(journal, 2)
        pump(shipper, adopt=True)
    assert shipper.own_settled == 0

    stuck.answers.clear()
    shipper._pump.dispatch.next_try = 0.0
    empty(shipper, adopt=True)
    assert unique(mine) <= unique(stuck.taken)
    let_go(journal, shipper)


def test_a_segment_without_events_is_given_up_too(home):
    """Notes alone are owed to nobody; the segment goes, and nothing counts as dropped."""
    sink = ScriptedSink(name="stuck")
    journal = journal_for(home, sink)
    note_open(journal)
    journal._place.writer.finish()
    shipper = shipper_for(journal, sink)

    (segment,) = journal.segments()
    assert shipper._pump.backlog.give_up(segment.name) == []
    let_go(journal, shipper)
    assert home_status(home)["dropped"] == {"disk_full": 0}


def test_what_a_living_process_has_is_left_to_it(home):
    """Two processes that share a bound give up their own events and those of dead ones only."""
    stuck = ScriptedSink(*[down] * 99, name="stuck")
    theirs, (their_shipper,), _ = bounded(home, stuck)
    left = record(theirs, 60)
    mine, (shipper,), told = bounded(home, stuck)
    pump(shipper, adopt=True)

    assert rows(home)["stuck"] == (60, 0, 60, 0)
    assert told.kinds() == ["backlog"]
    stuck.answers.clear()
    empty(their_shipper)
    assert unique(stuck.taken) <= unique(left)
    let_go(mine, shipper)
    let_go(theirs, their_shipper)


def test_events_held_for_a_refusal_may_be_given_up(home):
    """What was refused alone and waits to be understood goes with its segment, and shipping goes on."""

    def refuse(batch):
        return reject(batch) if False else down(batch)

    stuck = ScriptedSink(*[refuse] * 99, name="stuck")
    journal, (shipper,), _ = bounded(home, stuck)
    for _ in range(20):
        record(journal, 5)
        pump(shipper)
    stuck.answers.clear()
    shipper._pump.dispatch.next_try = 0.0
    empty(shipper)
    _, acked, pending, dropped = rows(home)["stuck"]
    assert (acked + dropped, pending) == (100, 0)
    let_go(journal, shipper)


def test_a_meter_has_the_bound_of_its_settings(home):
    """`backlog_bytes` bounds each sink, and segments are small enough for it."""
    told = Told()
    stuck = ScriptedSink(*[down] * 9999, name="stuck")
    with Meter(
        home, [stuck], source="tests", ledger=False, backlog_bytes=1 << 20, on_error=told.append
    ) as meter:
        usage = TokenUsage(input_tokens=1, output_tokens=1)
        while "shed" not in told.kinds():
            for _ in range(200):
                meter.record(usage, "customer-42")
            meter.flush(0)
        stuck.answers.clear()
        assert meter.flush(60)
    (row,) = home_status(home)["sinks"]
    assert row["recorded"] == row["acked"] + row["dropped"]
    assert row["acked"] == len(stuck.taken)
