"""Waiting: a flush cuts short what we chose to wait, not what the server asked for."""

from __future__ import annotations

import threading
import time

import pytest

from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport.cursor import Cursor
from llm_metering.transport.spool import Spool

from .harness import FakeClock, ScriptedSink, down, empty, journal_for, pump, record, shipper_for


@pytest.fixture
def waiting(home):
    """Makes a shipper whose first delivery got the given answer; ends its thread."""
    made = []

    def make(*answers):
        clock = FakeClock()
        sink = ScriptedSink(*answers)
        journal = journal_for(home, sink)
        shipper = shipper_for(journal, sink, clock=clock)
        made.append((journal, shipper))
        record(journal)
        pump(shipper)
        assert len(sink.offered) == 1
        return shipper, sink, clock

    yield make
    for journal, shipper in made:
        journal.close()
        shipper.begin_close(deadline=shipper._clock())
        while shipper.is_running:
            time.sleep(0.001)
        shipper.finish_close()


def eventually(condition):
    """Wait for what the shipper's thread is to do; pytest's timeout ends the wait."""
    while not condition():
        time.sleep(0.001)


def hurry(shipper):
    """Ask for a try now, and wait until there was one or it was refused."""
    shipper.hurry(1)
    eventually(lambda: not shipper._pump.skip_backoff)
    with shipper._turn:
        pass


def test_a_backoff_is_skipped_once(waiting):
    """A flush tries again at once; if that fails as well, the waiting goes on."""
    shipper, sink, clock = waiting(*[down] * 3)

    hurry(shipper)
    pump(shipper)
    assert len(sink.offered) == 2

    clock.now += 60
    pump(shipper)
    assert len(sink.offered) == 3


def test_a_flush_during_a_failing_delivery_is_not_forgotten(waiting):
    """Whoever flushes while a delivery is under way gets the try after it."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(batch):
        entered.set()
        assert go_on.wait(30)
        return down(batch)

    shipper, sink, clock = waiting(down, slow)
    clock.now += 60
    shipper.wake()
    assert entered.wait(30)
    shipper.hurry(1)
    go_on.set()

    eventually(lambda: len(sink.offered) == 3)
    eventually(lambda: shipper.own_settled == 1)


@pytest.mark.parametrize("hold", [False, True])
def test_a_servers_own_wait_is_kept_even_by_a_flush(waiting, hold):
    """Retry-After is a floor for everybody."""

    def wait(batch):
        return Delivery.try_later(batch, "429", retry_after=30, hold=hold)

    shipper, sink, clock = waiting(wait)
    hurry(shipper)
    clock.now += 29
    hurry(shipper)
    assert len(sink.offered) == 1

    clock.now += 1
    hurry(shipper)
    assert len(sink.offered) == 2


def test_a_pause_is_probed_by_a_flush(waiting):
    """A paused sink is tried when somebody asks for it, not only once a minute."""
    shipper, sink, _ = waiting(lambda batch: Delivery.try_later(batch, "401", hold=True))

    shipper.hurry(1)

    eventually(lambda: shipper.own_settled == 1)
    assert len(sink.offered) == 2


class Slow(ScriptedSink):
    """A sink that takes its time."""

    def __init__(self):
        super().__init__(limits=SinkLimits(max_events=1))
        self.entered, self.go_on = threading.Event(), threading.Event()

    def deliver(self, batch, /):
        self.entered.set()
        self.go_on.wait()
        return super().deliver(batch)


def test_a_delivery_that_outlasts_the_close_lets_go_at_last(home):
    """When a hanging server answers after all, another meter may take over what is left."""
    sink = Slow()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    ids = record(journal, 9)
    (segment,) = journal.segments()
    shipper.hurry(9)
    assert sink.entered.wait(30)
    journal.close()
    shipper.begin_close(deadline=shipper._clock())

    assert not shipper.finish_close()
    assert Cursor.acquire(journal._spool, segment.name, shipper.debt) is None
    sink.go_on.set()
    eventually(lambda: not shipper.is_running)
    assert len(sink.taken) < 9
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sink.taken == ids
    assert Spool(home).segments() == []


def test_closing_does_not_wait_for_a_drain_elsewhere(home):
    """Somebody who drains in a thread of theirs does not hold up the end of the process."""
    sink = Slow()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    record(journal)
    thread = threading.Thread(target=shipper.drain, kwargs={"deadline": shipper._clock() + 9})
    thread.start()
    assert sink.entered.wait(30)
    shipper.begin_close(deadline=shipper._clock())

    assert not shipper.finish_close()
    sink.go_on.set()
    thread.join()
    journal.close()


def test_waking_from_many_threads_starts_one_thread(waiting):
    """However many threads record the first event, one thread ships."""
    shipper, _, _ = waiting(*[down] * 100)
    before = set(threading.enumerate())
    threads = [threading.Thread(target=shipper.wake) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(threading.enumerate()) - before) == 1


def test_a_thread_that_could_not_start_is_tried_again(waiting, monkeypatch):
    """If there are too many threads for a while, shipping begins with a later event."""
    shipper, sink, clock = waiting(down)
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    shipper.wake()
    assert not shipper.is_running
    assert shipper.wake_at <= 1 + sink.limits.max_events
    monkeypatch.setattr(threading.Thread, "start", start)
    clock.now += 60
    shipper.wake()
    eventually(lambda: shipper.own_settled == 1)
