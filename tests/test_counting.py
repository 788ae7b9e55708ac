"""`CountingQueue`: everything submitted is counted, once, and never on the caller's thread."""

from __future__ import annotations

import threading
import time

import pytest

from llm_metering.counting import MAX_PENDING, CountingQueue
from llm_metering.exchange import Counted, Exchange, Output
from tests.forking import in_child

GUESSED = Counted(output_tokens=1, method="guess")


class Counters:
    """Counts letters, on whatever thread it is asked; waits while the gate is shut."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.threads = []

    def guess(self, exchange):
        return GUESSED

    def count(self, exchange):
        self.gate.wait()
        self.threads.append(threading.current_thread())
        text = "".join(exchange.output.texts)
        if text == "poison":
            raise RuntimeError("a secret answer")
        return Counted(output_tokens=len(text), method="letters")


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def failures():
    return []


@pytest.fixture
def queue(counters, failures):
    queue = CountingQueue(counters, note_failure=lambda where, error: failures.append(where))
    yield queue
    counters.gate.set()
    queue.close(time.monotonic() + 10)


def answer(text):
    return Exchange(output=Output(texts=[text]))


def soon():
    return time.monotonic() + 10


def past():
    return time.monotonic()


def test_it_counts_on_a_thread_of_its_own(queue, counters):
    """The caller only hands over."""
    results = []
    queue.submit(answer("four"), results.append)

    assert queue.wait(soon())
    assert results == [Counted(output_tokens=4, method="letters")]
    assert counters.threads[0] is not threading.current_thread()
    assert counters.threads[0].daemon


def test_waiting_ends_at_its_deadline(queue, counters):
    """What is still being counted then goes on, and is reported when it is done."""
    results = []
    counters.gate.clear()
    queue.submit(answer("four"), results.append)

    assert not queue.wait(past())
    assert (results, queue.pending) == ([], 1)
    counters.gate.set()
    assert queue.wait(soon())
    assert (len(results), queue.pending) == (1, 0)


def test_closing_estimates_what_there_is_no_time_to_count(queue, counters):
    """Only the one under way is left to its thread, and to the note in the journal."""
    results = []
    counters.gate.clear()
    for text in ("a", "bb", "ccc"):
        queue.submit(answer(text), results.append)
    while queue._jobs.qsize() > 2:
        time.sleep(0.001)
    queue.close(past())

    assert results == [GUESSED, GUESSED]
    counters.gate.set()
    assert queue.wait(soon())
    assert results[2:] == [Counted(output_tokens=1, method="letters")]


def test_after_closing_it_counts_again(queue):
    """Calls end late; they are counted all the same."""
    results = []
    queue.close(soon())
    queue.submit(answer("late"), results.append)

    assert queue.wait(soon())
    assert results == [Counted(output_tokens=4, method="letters")]


def test_without_a_thread_the_one_who_waits_counts(queue, counters, monkeypatch):
    """At the end of the interpreter, or with too many threads, none can be started."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    results = []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    queue.submit(answer("four"), results.append)
    assert results == []

    assert queue.wait(soon())
    assert results == [Counted(output_tokens=4, method="letters")]
    assert counters.threads == [threading.current_thread()]


def test_what_cannot_be_counted_is_estimated(queue, failures):
    """A failure is noted, and costs neither this event nor the next."""
    results = []
    queue.submit(answer("poison"), results.append)
    queue.submit(answer("four"), results.append)

    assert queue.wait(soon())
    assert results == [GUESSED, Counted(output_tokens=4, method="letters")]
    assert failures == ["counting"]


def test_a_result_that_cannot_be_written_is_noted(queue, failures):
    """The thread survives it."""

    def broken(_):
        raise OSError("disk full")

    queue.submit(answer("four"), broken)

    assert queue.wait(soon())
    assert failures == ["counting"]


def test_too_many_texts_are_not_kept(queue, counters):
    """Beyond the bound an exchange is estimated at once, and its text let go."""
    results = []
    counters.gate.clear()
    for _ in range(MAX_PENDING + 5):
        queue.submit(answer("four"), results.append)

    assert results == [GUESSED] * 5
    counters.gate.set()
    assert queue.wait(soon())
    assert len(results) == MAX_PENDING + 5


def test_a_forked_child_counts_nothing_of_its_parents(queue, counters):
    """The parent will; the child counts what it submits itself."""
    results = []
    counters.gate.clear()
    queue.submit(answer("parent"), results.append)

    def child():
        queue.after_fork()
        counters.gate = threading.Event()
        counters.gate.set()
        queue.submit(answer("mine"), results.append)
        return queue.wait(soon()) and results == [Counted(output_tokens=4, method="letters")]

    assert in_child(child)
    counters.gate.set()
    assert queue.wait(soon())
    assert results == [Counted(output_tokens=6, method="letters")]


def test_nobody_waits_for_somebody_who_submits(queue, monkeypatch):
    """Who submits may hold the journal's lock, which the other may want next: neither must wait."""
    started, go_on = threading.Event(), threading.Event()
    real = threading.Thread.start

    def slow(thread):
        if thread.name == "llm-metering-count":
            started.set()
            assert go_on.wait(20)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", slow)
    results = []
    other = threading.Thread(target=queue.submit, args=(answer("one"), results.append))
    other.start()
    assert started.wait(20)
    done = threading.Event()

    def submit():
        queue.submit(answer("two"), results.append)
        done.set()

    second = threading.Thread(target=submit)
    second.start()
    has_returned = done.wait(20)
    go_on.set()
    other.join()
    second.join()

    assert has_returned
    assert queue.wait(soon())
    assert len(results) == 2


def test_waiting_is_for_those_that_came_first(queue, counters):
    """What was estimated at once, because too many waited, stands for none of them."""
    counters.gate.clear()
    for _ in range(MAX_PENDING + 50):
        queue.submit(answer("four"), lambda _: None)

    assert not queue.wait(past())
    assert queue.pending == MAX_PENDING
    counters.gate.set()
    assert queue.wait(soon())
    assert queue.pending == 0


def test_closing_says_whether_all_was_counted(queue, counters):
    """One that is being counted when the time is up has only its note."""
    counters.gate.clear()
    queue.submit(answer("four"), lambda _: None)
    while queue._jobs.qsize():
        time.sleep(0.001)

    assert not queue.close(past())
    counters.gate.set()
    assert queue.wait(soon())
    assert queue.close(soon())
