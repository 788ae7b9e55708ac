"""Flushing: true when everything is where it belongs, for this process and no other."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from llm_metering.meter import Meter
from llm_metering.sinks.base import Delivery
from llm_metering.system import forks
from llm_metering.transport.spool import Spool
from tests.forking import in_child
from tests.metering import REPORT, call, start
from tests.transport.harness import ScriptedSink, down, reject


@pytest.fixture
def sink():
    return ScriptedSink()


@pytest.fixture
def meter(home, sink):
    """A meter with one sink, and no ledger beside it."""
    meter = Meter(home, [sink], source="tests", ledger=False)
    yield meter
    meter.close(0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_flush_waits_until_every_sink_has_everything(home, sink):
    """True means: acknowledged by each sink, the ledger too."""
    with Meter(home, [sink], source="tests") as meter:
        call(meter, 3)

        assert meter.flush()
        assert len(sink.taken) == 3
        rows = {row["name"]: row["acked"] for row in meter.statistics()["sinks"]}
        assert rows == {"ledger": 3, "scripted": 3}


def test_flush_says_when_it_ran_out_of_time(meter, sink):
    """False means: something still waits; it stays where it is."""
    sink.answers.extend([down] * 1000)
    call(meter)

    assert not meter.flush(0.05)
    assert meter.statistics()["sinks"][0]["pending"] == 1


def test_flush_does_not_wait_for_calls_in_flight(meter, sink):
    """A call that has not ended is neither waited for nor cut."""
    start(meter, "long")
    call(meter)

    assert meter.flush()
    assert (len(meter.calls), len(sink.taken)) == (1, 1)
    meter.calls.end("long", "completed", REPORT)
    assert meter.flush()
    assert len(sink.taken) == 2


def test_a_dead_letter_is_no_reason_to_wait(meter, sink):
    """What a sink will never take does not hold up a flush."""
    sink.answers.append(reject)
    call(meter)

    assert meter.flush()
    assert meter.statistics()["sinks"][0]["dead"] == 1


def test_flush_works_where_no_thread_can_be_started(meter, sink, monkeypatch):
    """At the end of an interpreter, the caller's own thread does the work."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    call(meter, 3)

    assert meter.flush()
    assert len(sink.taken) == 3


def test_flush_sends_what_the_disk_refused(meter, sink, home):
    """An event that waits in memory is recorded all the same; a note of ours is not an event."""
    obstacle = Spool(home).lock_path(meter._journal.writer)
    obstacle.mkdir()
    start(meter, "in flight")
    assert (meter.statistics()["held_in_memory"], meter.flush(0)) == (1, True)
    sink.answers.append(down)
    call(meter)
    assert not meter.flush(0)
    assert meter.statistics()["sinks"][0]["pending"] == 1

    assert meter.flush()
    assert len(sink.taken) == 1
    obstacle.rmdir()
    while meter.statistics()["held_in_memory"]:
        time.sleep(0.01)
    (row,) = meter.statistics()["sinks"]
    assert (row["recorded"], row["acked"], len(sink.taken)) == (1, 1, 1)


@pytest.mark.anyio
async def test_aflush_leaves_the_event_loop_free(meter, sink):
    """While one task waits for the sinks, the others go on."""
    proceed = threading.Event()

    def slow(batch):
        assert proceed.wait(30)
        return Delivery.all_accepted(batch)

    sink.answers.append(slow)
    call(meter)
    flushing = asyncio.ensure_future(meter.aflush())
    await asyncio.sleep(0)
    assert not flushing.done()
    proceed.set()

    assert await flushing
    assert await meter.aclose()


def test_a_child_waits_for_its_own_events_only(meter, sink):
    """What its parent has pending is no reason for a child to wait."""
    sink.answers.extend([down] * 100)
    call(meter)

    def child():
        if not meter.flush(0):
            return False
        sink.answers.clear()
        call(meter, 2)
        return meter.flush() and len(sink.taken) == 2

    assert in_child(child)


def test_a_child_forked_without_hooks_meters_its_first_call(meter, sink, monkeypatch):
    """Where a fork in C told nobody, the child's first call is metered with what it used."""
    call(meter)
    start(meter, "the parent's")
    parent, hooked = os.getpid(), forks._fork_aware

    def child():
        forks._fork_aware, forks._pid = hooked, parent
        sink.taken.clear()
        if len(meter.calls) != 0:
            return False
        start(meter, "own")
        meter.calls.end("own", "completed", REPORT)
        return meter.close() and len(sink.taken) == 1

    monkeypatch.setattr(forks, "_fork_aware", type(hooked)())
    assert in_child(child)
    monkeypatch.undo()

    meter.calls.end("the parent's", "completed", REPORT)
    assert meter.flush()
    assert len(sink.taken) == 2
