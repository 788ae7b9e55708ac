"""The counting thread's chore, which is to close calls that nobody ends: done when it is due, or not at all."""

from __future__ import annotations

import threading
import time

import pytest

from llm_metering import Meter
from llm_metering.calls import CallStart, owner_is_over
from llm_metering.counting import CountingQueue
from llm_metering.exchange import Counted, Exchange
from llm_metering.sinks.memory import MemorySink
from llm_metering.subjects import Attribution, Rank
from tests.forking import in_child
from tests.metering import start

WAIT = 20.0
CHAINED = CallStart(attribution=Attribution(subject="acme", rank=Rank.HANDLER), parent="chain")


class Counters:
    """Counts nothing, at once."""

    def guess(self, exchange):
        return Counted(method="guess")

    def count(self, exchange):
        return Counted(method="count")


class Chore:
    """Says how long to wait, and lets a test wait for it."""

    def __init__(self, *waits):
        self.waits = list(waits)
        self.threads = []
        self.done = threading.Semaphore(0)

    def __call__(self):
        self.threads.append(threading.current_thread())
        wait = self.waits.pop(0) if self.waits else None
        self.done.release()
        if isinstance(wait, Exception):
            raise wait
        return wait


@pytest.fixture
def queue_for():
    """Make a queue with a chore; it is closed afterwards."""
    queues = []
    failures = []

    def queue_for(chore):
        note = lambda where, error: failures.append(where)  # noqa: E731
        queues.append(CountingQueue(Counters(), note_failure=note, chore=chore))
        return queues[-1]

    queue_for.failures = failures
    yield queue_for
    for queue in queues:
        queue.close(time.monotonic() + WAIT)


def wait_until(holds):
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.001)


def test_it_is_not_done_until_somebody_asks(queue_for):
    """Where nothing is in flight, nobody wakes up."""
    chore = Chore()
    queue = queue_for(chore)
    queue.start()
    queue.submit(Exchange(), lambda _: None)
    assert queue.wait(time.monotonic() + WAIT)

    assert chore.threads == []


def test_it_is_done_again_when_it_says_so(queue_for):
    """On the counting thread, and until it says that there is nothing left to do."""
    chore = Chore(0.0, 0.0)
    queue = queue_for(chore)
    queue.do_chore()
    for _ in range(3):
        assert chore.done.acquire(timeout=WAIT)

    assert len(chore.threads) == 3
    assert {thread.name for thread in chore.threads} == {"llm-metering-count"}


def test_who_asks_while_it_is_due_wakes_nobody(queue_for):
    """Every start of a call asks; the first of them alone costs something."""
    chore = Chore(3600.0)
    queue = queue_for(chore)
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)
    wait_until(lambda: queue._has_chore)
    for _ in range(100):
        queue.do_chore()

    assert queue._jobs.empty()


def test_who_asks_where_no_thread_could_be_had_asks_for_the_next_too(queue_for, monkeypatch):
    """A process with too many threads has fewer a while later, and calls that nobody ends."""
    chore = Chore(3600.0)
    queue = queue_for(chore)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        queue.do_chore()
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)


def test_who_asks_while_it_is_done_is_heard(queue_for):
    """A call that starts just as the sweep finds nothing open is not forgotten."""
    queue = None

    class Asking(Chore):
        def __call__(self):
            if not self.threads:
                queue.do_chore()
            return super().__call__()

    chore = Asking()
    queue = queue_for(chore)
    queue.do_chore()
    for _ in range(2):
        assert chore.done.acquire(timeout=WAIT)


def test_counting_does_not_put_it_off(queue_for):
    """However many texts come in, it is done when it is due."""
    chore = Chore(0.01)
    queue = queue_for(chore)
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)
    is_done = threading.Event()

    def submit_more(_):
        if not is_done.is_set():
            queue.submit(Exchange(), submit_more)

    queue.submit(Exchange(), submit_more)
    assert chore.done.acquire(timeout=WAIT)
    is_done.set()


def test_one_that_fails_is_noted_and_tried_again(queue_for):
    """It must not end the thread that counts."""
    chore = Chore(RuntimeError("secret"))
    queue = queue_for(chore)
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)
    queue.submit(Exchange(), lambda _: None)

    assert queue.wait(time.monotonic() + WAIT)
    assert queue_for.failures == ["chore"]
    wait_until(lambda: queue._has_chore)


def test_it_is_done_after_the_queue_was_closed(queue_for):
    """Calls that start after the meter was closed are looked after as well."""
    chore = Chore(3600.0, 3600.0)
    queue = queue_for(chore)
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)
    queue.close(time.monotonic() + WAIT)
    wait_until(lambda: not queue._is_alive())
    queue.do_chore()

    assert chore.done.acquire(timeout=WAIT)


def test_a_forked_child_has_a_chore_of_its_own(queue_for):
    """The thread of its parent's is not in the child."""
    chore = Chore(3600.0)
    queue = queue_for(chore)
    queue.do_chore()
    assert chore.done.acquire(timeout=WAIT)

    def in_the_child():
        queue.after_fork()
        queue.do_chore()
        return chore.done.acquire(timeout=WAIT) and queue._is_alive()

    assert in_child(in_the_child)


def test_a_meter_closes_silent_calls_by_itself(home):
    """Nobody flushes, nothing ends; after the time that is set the call is an event."""
    sink = MemorySink()
    with Meter(home=home, sinks=[sink], silent_call_hours=1e-9) as meter:
        start(meter)
        wait_until(lambda: sink.events)

        (event,) = sink.events
        assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")
        assert event.data["flags"] == ["gone_silent"]
        assert len(meter.calls) == 0


def test_a_call_in_flight_over_a_fork_is_its_parents(home):
    """What it was begun in ends in the child as well, and makes no event there."""
    sink = MemorySink()
    with Meter(home=home, sinks=[sink]) as meter:
        meter.calls.start("run", CHAINED)

        def end_the_chain():
            assert len(meter.calls) == 0
            owner_is_over("chain")
            return meter.flush() and meter.statistics()["recorded"] == 0

        assert in_child(end_the_chain)
        assert len(meter.calls) == 1
        owner_is_over("chain")
        assert meter.flush()
    (event,) = sink.events
    assert event.data["flags"] == ["left_behind"]
