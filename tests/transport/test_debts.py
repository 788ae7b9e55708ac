"""Debts: who ships what for whom, and when a segment may go."""

from __future__ import annotations

import json
import threading

import pytest

from llm_metering import system
from llm_metering.transport import backlog
from llm_metering.transport.pump import ADOPT_EVERY, LOOK_AGAIN_AFTER
from llm_metering.transport.spool import Spool, debt_of
from llm_metering.transport.status import home_status

from .harness import (
    FakeClock,
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    pump,
    record,
    run_child,
    shipper_for,
    unique,
)


def rows(home):
    """Acknowledged and pending by sink."""
    return {row["name"]: (row["acked"], row["pending"]) for row in home_status(home)["sinks"]}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"url": "openmeter+https://other"}, id="another server"),
        pytest.param({"account": "team-b"}, id="another account"),
    ],
)
def test_nobody_ships_another_applications_debt(home, other):
    """Two applications in one home, for two servers or accounts, leave each other's events."""
    theirs = ScriptedSink(url="openmeter+https://one", account="team-a")
    ours = ScriptedSink(**({"url": "openmeter+https://one", "account": "team-a"} | other))
    journal = journal_for(home, theirs)
    ids = record(journal)
    let_go(journal)

    empty(shipper_for(journal_for(home, ours), ours), adopt=True)
    assert ours.offered == []

    empty(shipper_for(journal_for(home, theirs), theirs), adopt=True)
    assert theirs.taken == ids


def test_a_new_key_or_name_changes_no_debt():
    """What a sink is called, and what opens it, is not who it is."""
    one = debt_of(ScriptedSink(name="main", url="openmeter+https://one", account="a"))
    other = debt_of(ScriptedSink(name="renamed", url="openmeter+https://one", account="a"))
    shifted = debt_of(ScriptedSink(url="openmeter+https://onea", account=""))

    assert one.key == other.key != shifted.key


def test_a_stuck_sink_keeps_nothing_from_a_healthy_one(home):
    """What one sink does not take, every other sink has all the same."""
    stuck, healthy = ScriptedSink(*[down] * 50, name="stuck"), ScriptedSink(name="healthy")
    journal = journal_for(home, stuck, healthy, segment_bytes=1)
    shippers = [shipper_for(journal, sink) for sink in (stuck, healthy)]
    ids: list[str] = []
    for _ in range(3):
        ids += record(journal, 2)
        for shipper in shippers:
            for _ in range(3):
                pump(shipper)

    assert healthy.taken == ids
    assert rows(home) == {"healthy": (6, 0), "stuck": (0, 6)}
    journal.close()


def test_a_segment_goes_when_each_of_its_sinks_has_it(home):
    """Not before the last one, and then at once."""
    sinks = [ScriptedSink(name=name) for name in ("a", "b", "c")]
    journal = journal_for(home, *sinks)
    shippers = [shipper_for(journal, sink) for sink in sinks]
    record(journal, 2)
    journal.close()
    left = []
    for shipper in shippers:
        empty(shipper)
        shipper.finish_close()
        left.append(len(Spool(home).segments()))

    assert left == [1, 1, 0]
    assert rows(home) == {"a": (2, 0), "b": (2, 0), "c": (2, 0)}
    assert {path.name for path in Spool(home).folder.iterdir()} <= {
        *("counters.json", "counters.lock", "kept"),
        *(f"{shipper.debt.key}.sink" for shipper in shippers),
    }


def test_sinks_that_finish_at_the_same_time_still_let_the_segment_go(home):
    """If each finds the other still holding on, the segment goes with the next look around."""
    sinks = [ScriptedSink(name=name) for name in ("a", "b")]
    clock = FakeClock()
    journal = journal_for(home, *sinks, segment_bytes=1)
    shippers = [shipper_for(journal, sink, clock=clock) for sink in sinks]
    record(journal, 2)
    first = journal.segments()[0].name
    empty(shippers[0])
    busy = system.lock_file(Spool(home).ack_path(first, shippers[0].debt.key))
    empty(shippers[1])
    assert len(Spool(home).segments()) == 2, "the first one waits"
    system.unlock_file(busy)

    clock.now += ADOPT_EVERY
    shippers[0]._pump.once(urgent=True, adopt=True)

    assert [name.number for name in Spool(home).segments()] == [1]
    assert [each.name.number for each in journal.segments()] == [1]
    journal.close()


def test_shippers_on_threads_let_every_segment_go(home):
    """Side by side on their threads, several sinks empty a home together."""
    sinks = [ScriptedSink(name=name) for name in ("a", "b", "c")]
    ids: list[str] = []
    for _ in range(20):
        journal = journal_for(home, *sinks)
        ids += record(journal, 3)
        let_go(journal)
    heirs = [shipper_for(journal_for(home, *sinks), sink) for sink in sinks]

    for _ in range(3):  # a lock that another one held for a moment is tried again
        threads = [threading.Thread(target=empty, args=[h], kwargs={"adopt": True}) for h in heirs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert all(unique(sink.taken) == unique(ids) for sink in sinks)
    assert Spool(home).segments() == []
    assert home_status(home)["recorded"] == 60


def test_an_orphan_is_adopted_by_one_process_at_a_time(home):
    """While one process is at a dead one's segment, another does not send it as well."""
    sink, rival = ScriptedSink(down), ScriptedSink()  # the same server, seen by two processes
    journal = journal_for(home, sink)
    ids = record(journal)
    let_go(journal)
    busy = shipper_for(journal_for(home, sink), sink)
    pump(busy, adopt=True)
    second = shipper_for(journal_for(home, rival), rival)
    empty(second, adopt=True)
    assert (sink.offered, rival.offered) == ([ids], [])

    busy.after_fork()  # it is killed
    empty(second, adopt=True)
    assert rival.offered == [ids]


def test_an_orphan_that_is_just_being_settled_is_adopted_at_once(home, clock):
    """Whoever comes while another one settles a dead writer does not wait for the next round."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    ids, writer = record(journal), journal.writer
    let_go(journal)
    shipper = shipper_for(journal_for(home, sink), sink, clock=clock)
    settling = system.lock_file(Spool(home).lock_path(writer))
    assert not pump(shipper, adopt=True), "it cannot know that nothing is left"
    system.unlock_file(settling)

    clock.now += LOOK_AGAIN_AFTER
    shipper._pump.once(urgent=True, adopt=True)

    assert sink.taken == ids


def test_a_sink_waits_while_another_one_settles(home, monkeypatch):
    """However long one sink's thread takes to settle a dead writer, the next one adopts then."""
    first, second = ScriptedSink(name="first"), ScriptedSink(name="second")
    journal = journal_for(home, first, second)
    ids = record(journal)
    let_go(journal)
    ours = journal_for(home, first, second)
    settle, begun, go_on = backlog.settle_writer, threading.Event(), threading.Event()

    def slowly(spool, writer):
        if not begun.is_set():
            lock = system.lock_file(spool.lock_path(writer))
            begun.set()
            go_on.wait()
            system.unlock_file(lock)
        return settle(spool, writer)

    monkeypatch.setattr(backlog, "settle_writer", slowly)
    shippers = [shipper_for(ours, sink) for sink in (first, second)]
    threads = [
        threading.Thread(target=pump, args=(shipper,), kwargs={"adopt": True})
        for shipper in shippers
    ]
    threads[0].start()
    begun.wait()
    threads[1].start()
    threads[1].join(0.3)  # long enough to pass by, if it does
    go_on.set()
    for thread in threads:
        thread.join()

    assert (first.taken, second.taken) == (ids, ids)


def test_an_orphan_that_is_just_being_collected_is_adopted_at_once(home, clock):
    """Who is through with a segment holds it for a moment to see whether it may go.

    The sinks that are not through do not wait for the next round then.
    """
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    ids = record(journal)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    shipper = shipper_for(journal_for(home, sink), sink, clock=clock)
    collecting = system.lock_file(spool.ack_path(name, debt_of(sink).key))
    assert not pump(shipper, adopt=True), "it cannot know that nothing is left"
    system.unlock_file(collecting)

    clock.now += LOOK_AGAIN_AFTER
    shipper._pump.once(urgent=True, adopt=True)

    assert sink.taken == ids


def test_a_segment_that_another_process_ships_is_looked_at_again_once(home, clock):
    """After that, its shipper is left to it until the next round."""
    sink = ScriptedSink(down)
    journal = journal_for(home, sink)
    record(journal)
    let_go(journal)
    pump(shipper_for(journal_for(home, sink), sink), adopt=True)
    second = shipper_for(journal_for(home, sink), ScriptedSink(), clock=clock)

    waits = []
    for _ in range(3):
        waits.append(second._pump.once(urgent=True, adopt=True))
        clock.now += LOOK_AGAIN_AFTER

    assert waits == [pytest.approx(LOOK_AGAIN_AFTER), None, None]


def test_a_writer_that_lives_is_looked_at_again_once(home, clock):
    """After that it is one of those that are looked at now and then, and nobody waits for it."""
    sink = ScriptedSink()
    living = journal_for(home, sink)
    record(living)
    shipper = shipper_for(journal_for(home, sink), sink, clock=clock)

    waits = []
    for _ in range(3):
        waits.append(shipper._pump.once(urgent=True, adopt=True))
        clock.now += LOOK_AGAIN_AFTER

    assert waits == [pytest.approx(LOOK_AGAIN_AFTER), None, None]
    assert sink.offered == []
    living.close()


def test_a_removed_sinks_debt_stays_visible_and_keeps_nobody_busy(home):
    """Many segments that wait for a sink nobody has any more are shipped once to the others."""
    sink, removed = ScriptedSink(), ScriptedSink(name="removed")
    for _ in range(20):
        journal = journal_for(home, sink, removed)
        record(journal)
        let_go(journal)
    heir = shipper_for(journal_for(home, sink), sink)

    empty(heir, adopt=True)
    empty(heir, adopt=True)

    assert rows(home) == {"removed": (0, 20), "scripted": (20, 0)}
    assert (len(sink.taken), len(Spool(home).segments())) == (20, 20)


FEW_DESCRIPTORS = """
import json, os, resource, sys
from pathlib import Path
from tests.transport.harness import *

home = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (110, 110))
clock = FakeClock()
sink = ScriptedSink(*[down] * 5)
journal = journal_for(home, sink, segment_bytes=1)
shipper = shipper_for(journal, sink, clock=clock)
record(journal, 30)
for _ in range(6):
    pump(shipper, adopt=True)
    clock.now += 60
free = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
for descriptor in free:
    os.close(descriptor)
empty(shipper, adopt=True)
print(json.dumps(sink.taken))
"""


def test_a_long_outage_does_not_use_up_the_applications_files(home):
    """However many segments wait, the files that are open for them are few."""
    sink = ScriptedSink()
    ids: list[str] = []
    for _ in range(50):
        journal = journal_for(home, sink)
        ids += record(journal)
        let_go(journal)

    stdout, stderr = run_child(FEW_DESCRIPTORS, home).communicate(timeout=60)

    assert "Traceback" not in stderr
    assert set(ids) < unique(json.loads(stdout))
    assert len(json.loads(stdout)) == 80
