"""Checks that stall or break, beside others."""

from __future__ import annotations

import threading

import pytest

from llm_metering.checkup.finding import failure, ok
from llm_metering.checkup.running import Task, run_side_by_side

LATE = failure("slow.in_time", "it was not through", means="it stalls", advice="look at it")


def task(run, name="slow", limit=20.0):
    """A task."""
    return Task(name=name, run=run, limit=limit, late=LATE)


@pytest.fixture
def stalled():
    """A check that finds something, and then waits for what comes at the end of the test only."""
    release = threading.Event()

    def check():
        yield ok("slow.begun", "it begins")
        release.wait()

    yield check
    release.set()


def test_a_check_that_stalls_holds_up_nobody(stalled):
    """What it had found counts, that it was late is said, and the others are through."""
    quick = task(lambda: [ok("quick", "it is through")], name="quick")

    findings = run_side_by_side([task(stalled, limit=0.05), quick])

    assert findings == [ok("slow.begun", "it begins"), LATE, ok("quick", "it is through")]
    assert all(
        thread.daemon for thread in threading.enumerate() if "llm-metering-doctor" in thread.name
    )


def test_checks_run_side_by_side():
    """Each waits for the other to have begun: one after the other, neither would end."""
    barrier = threading.Barrier(2, timeout=20)

    def check():
        barrier.wait()
        yield ok("met", "they met")

    assert run_side_by_side([task(check), task(check)]) == [ok("met", "they met")] * 2


def test_a_check_that_breaks_is_a_finding():
    """Its error's text, which may quote an event, is not in it."""

    def check():
        yield ok("slow.begun", "it begins")
        raise KeyError("customer-42")

    begun, broken = run_side_by_side([task(check)])

    assert begun == ok("slow.begun", "it begins")
    assert (broken.check, broken.level) == ("slow.checked", "failure")
    assert "KeyError" in broken.found
    assert "customer-42" not in str(broken)
