"""A disk that stalls: who records does not wait for it, and nothing is lost or out of order."""

from __future__ import annotations

import os
import threading
import time

import pytest

from llm_metering import system
from llm_metering.transport.stalls import STALL, Stalls
from llm_metering.transport.status import home_status
from llm_metering.transport.writer import SegmentWriter

from .harness import ScriptedSink, ids_on_disk, journal_for, pump, record, shipper_for, unique


class StalledDisk:
    """Lets no write through until it is told to.

    Attributes:
        reached: A write has arrived here.
        proceed: It, and those after it, may go on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.proceed = threading.Event()
        append = SegmentWriter.append

        def stalled(writer, frame, carried):
            self.reached.set()
            assert self.proceed.wait(60)
            append(writer, frame, carried)

        monkeypatch.setattr(SegmentWriter, "append", stalled)


@pytest.fixture
def journal(home):
    """A journal whose threads end with the test."""
    journal = journal_for(home)
    yield journal
    journal.close()


def in_background(work):
    """A thread at work."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_nobody_waits_for_a_write_that_stalls(home, journal, monkeypatch):
    """While one thread is stuck in a write, the others go on; when it comes back, all is on disk."""
    disk, stuck = StalledDisk(monkeypatch), []
    first = in_background(lambda: stuck.extend(record(journal)))
    assert disk.reached.wait(60)

    others = record(journal, 3)  # would hang here
    assert (first.is_alive(), journal.held, journal.bypassed) == (True, 3, 3)

    disk.proceed.set()
    first.join()
    while journal.held:
        time.sleep(0.01)
    assert ids_on_disk(home) == stuck + others
    assert journal.recorded == 4


def test_what_was_bypassed_is_counted_for_good(home, journal, monkeypatch):
    """How many records waited in memory for the disk is shown by `status`, also afterwards."""
    disk = StalledDisk(monkeypatch)
    first = in_background(lambda: record(journal))
    assert disk.reached.wait(60)
    record(journal, 2)
    disk.proceed.set()
    first.join()

    journal.close()

    assert home_status(home)["bypassed"] == 2


def test_a_disk_that_stays_slow_is_left_to_the_thread_of_ours(home, journal, monkeypatch):
    """After two slow writes in a row the calling thread writes nothing any more, until it is quick."""
    writers, slow, append = [], threading.Event(), SegmentWriter.append
    slow.set()

    def sluggish(writer, frame, carried):
        writers.append(threading.current_thread())
        append(writer, frame, carried)
        if slow.is_set():
            time.sleep(2 * STALL)

    monkeypatch.setattr(SegmentWriter, "append", sluggish)
    ids = record(journal, 6)
    me = threading.current_thread()
    assert 1 < writers.count(me) < 4
    slow.clear()
    while journal.held:
        time.sleep(0.01)
    assert journal.bypassed == 6 - writers.count(me)
    assert ids_on_disk(home) == ids

    before = len(writers)
    ids += record(journal, 2)
    assert writers[before:].count(me) == 2
    assert ids_on_disk(home) == ids


def test_memory_is_bounded_while_the_disk_stalls(home, journal, monkeypatch):
    """What does not fit is dropped, newest first, and counted by reason."""
    monkeypatch.setattr("llm_metering.transport.appender.HELD_LIMIT", 3)
    disk = StalledDisk(monkeypatch)
    first = in_background(lambda: record(journal))
    assert disk.reached.wait(60)

    others = record(journal, 5)
    assert (journal.held, dict(journal.dropped)) == (3, {"stalled": 2})

    disk.proceed.set()
    first.join()
    journal.close()
    assert ids_on_disk(home)[1:] == others[:3]
    assert home_status(home)["dropped"] == {"disk_full": 0, "stalled": 2}


def test_what_waited_for_the_disk_is_shipped(home, monkeypatch):
    """The sinks get what was bypassed, once it is written."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    disk, stuck = StalledDisk(monkeypatch), []
    first = in_background(lambda: stuck.extend(record(journal)))
    assert disk.reached.wait(60)
    others = record(journal, 2)
    disk.proceed.set()
    first.join()

    assert journal.expected(time.monotonic() + 60) == 3
    pump(shipper)

    assert (unique(sink.taken), shipper.own_settled) == (unique(stuck + others), 3)
    journal.close()


def test_a_flush_ends_in_time_while_the_disk_stalls(journal, monkeypatch):
    """Nobody can say what is recorded while it is not; a flush says so instead of hanging."""
    disk = StalledDisk(monkeypatch)
    first = in_background(lambda: record(journal))
    assert disk.reached.wait(60)

    assert journal.expected(time.monotonic() + 0.01) is None
    journal.close(time.monotonic() + 0.01)

    disk.proceed.set()
    first.join()
    assert journal.expected(time.monotonic() + 60) == 1


def test_a_flush_waits_for_what_is_left_to_the_thread_of_ours(home, journal, monkeypatch):
    """What is deferred because the disk stalls was recorded before, and is to be waited for."""
    monkeypatch.setattr(journal._syncer, "at_once", lambda: True)  # it has not come to it yet
    journal._appender.stalls.is_stalled = True
    record(journal, 2)

    assert (journal.held, journal.expected(time.monotonic() + 60)) == (2, 2)
    monkeypatch.undo()
    journal._appender.stalls.is_stalled = False


def test_what_waited_is_on_the_medium_when_that_was_asked_for(home, journal, monkeypatch):
    """A record that was left to the syncing thread is written before that thread syncs."""
    record(journal)
    journal.durable().result(60)
    monkeypatch.setattr(journal._syncer, "at_once", lambda: True)
    journal._appender.stalls.is_stalled = True
    ids = record(journal)
    journal._appender.stalls.is_stalled = False
    synced, sync = [], system.sync_data

    def watched(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(system, "sync_data", watched)
    journal._upkeep.work()

    assert ids_on_disk(home)[1:] == ids
    assert synced == [journal.segments()[-1].size]


@pytest.mark.parametrize(
    ("writes", "stalled"),
    [
        pytest.param([(0.2, 0.0)], False, id="one pause of the machine"),
        pytest.param([(0.2, 0.0), (0.2, 0.01)], True, id="two in a row"),
        pytest.param([(0.2, 0.0), (0.001, 0.0), (0.2, 0.0)], False, id="not in a row"),
        pytest.param([(0.2, 0.0), (0.2, 0.19)], False, id="busy computing"),
        pytest.param([(0.2, 0.0), (0.2, 0.0), (0.001, 0.0)], False, id="quick again"),
    ],
)
def test_when_a_disk_counts_as_stalled(writes, stalled):
    """Two slow writes in a row, during which the process did not compute."""
    stalls = Stalls()

    for number, (seconds, busy) in enumerate(writes):
        stalls.wrote(seconds, busy=busy, now=float(number))

    assert stalls.is_stalled is stalled
