"""`Meter`: wired together, flushed, closed, replaced; and never in the application's way."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from llm_metering.calls import CallStart, Report
from llm_metering.errors import LedgerError, MeteringError
from llm_metering.meter import Meter
from llm_metering.sinks.base import Delivery
from llm_metering.subjects import Attribution, Rank
from llm_metering.token_usage import TokenUsage
from llm_metering.transport import system
from llm_metering.transport.spool import Spool
from tests.forking import in_child
from tests.transport.harness import ScriptedSink, down, events_on_disk, ids_on_disk, reject

REPORT = Report(usage=TokenUsage(input_tokens=100, output_tokens=20))


def start(meter, key="run"):
    """Start a call."""
    attribution = Attribution(subject="customer-42", rank=Rank.HANDLER)
    meter.calls.start(key, CallStart(attribution=attribution, framework="none", operation="chat"))


def call(meter, count=1):
    """Meter that many calls from start to end."""
    for number in range(count):
        start(meter, f"run-{number}")
        meter.calls.end(f"run-{number}", "completed", REPORT)


@pytest.fixture
def sink():
    return ScriptedSink()


@pytest.fixture
def meter(home, sink):
    """A meter with one sink, and no ledger beside it."""
    meter = Meter(home, [sink], source="tests", ledger=False)
    yield meter
    meter.close(0)


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


def test_flush_waits_for_what_the_disk_refused(meter, sink, home):
    """An event that waits in memory is recorded all the same; a note of ours is not an event."""
    obstacle = Spool(home).lock_path(meter._journal.writer)
    obstacle.mkdir()
    start(meter, "in flight")
    assert (meter.statistics()["held_in_memory"], meter.flush(0)) == (1, True)
    call(meter)
    assert not meter.flush(0.01)

    obstacle.rmdir()
    assert meter.flush()
    assert len(sink.taken) == 1


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


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_an_async_block_closes_what_it_opened(home, sink):
    """`async with` ships everything and closes the sinks."""
    async with Meter(home, [sink], source="tests", ledger=False) as meter:
        call(meter)

    assert (len(sink.taken), sink.closings) == (1, 1)


def test_a_block_closes_what_it_opened(home, sink):
    """So does `with`; nothing but the books is left."""
    with Meter(home, [sink], source="tests", ledger=False) as meter:
        call(meter, 2)

    assert (len(sink.taken), sink.closings) == (2, 1)
    assert ids_on_disk(home) == []
    assert meter.close()


def test_for_ever_is_a_timeout(meter, sink):
    """Whoever wants to wait without end may say so."""
    call(meter)

    assert meter.flush(float("inf"))
    call(meter)
    assert meter.close(float("inf"))
    assert len(sink.taken) == 2


def test_closing_settles_calls_in_flight(home, sink):
    """Nobody will say how they ended: they are aborted, and counted."""
    with Meter(home, [sink], source="tests", ledger=False) as meter:
        start(meter)
        sink.answers.extend([down] * 100)
        meter.close(0.01)

    (event,) = events_on_disk(home)
    assert (event["data"]["status"], event["data"]["flags"]) == ("aborted", ["open_at_exit"])
    assert meter.statistics()["open_calls"] == 0


def test_a_meter_used_after_close_records_to_disk(meter, sink, home):
    """A call that begins or ends later is on disk, for the next process."""
    assert meter.close()
    call(meter, 2)

    assert len(ids_on_disk(home)) == 2
    assert sink.taken == []
    with Meter(home, [sink], source="tests", ledger=False) as heir:
        (shipper,) = heir._shippers
        assert shipper.drain(deadline=float("inf"))
        assert sink.taken == [], "its writer lives"
        meter._journal.close()
        assert shipper.drain(deadline=float("inf"))
    assert len(sink.taken) == 2


class Clumsy(ScriptedSink):
    """A sink that cannot even be closed."""

    def close(self):
        raise OSError("connection lost")


def test_a_sink_that_cannot_be_closed_is_nobodys_problem(home, sink):
    """What one sink raises on closing reaches neither the application nor the other sinks."""
    meter = Meter(home, [Clumsy(name="clumsy"), sink], source="tests", ledger=False)
    call(meter)

    assert meter.close()
    assert sink.closings == 1


def test_statistics_of_a_fresh_meter(home, sink):
    """Before the first call every sink has its row, and every count is zero."""
    with Meter(home, [sink], source="tests") as meter:
        statistics = meter.statistics()

    assert (statistics["home"], statistics["recorded"]) == (str(home), 0)
    assert [row["name"] for row in statistics["sinks"]] == ["ledger", "scripted"]
    for row in statistics["sinks"]:
        assert (row["state"], row["reason"], row["oldest_pending_seconds"]) == ("ok", None, None)
        assert {row[key] for key in ("recorded", "acked", "pending", "dead", "dropped")} == {0}


def test_racing_threads_may_make_meters_of_one_home(home):
    """Nor do threads that make meters of their own fail each other."""
    failures, barrier = [], threading.Barrier(8)

    def work(number):
        barrier.wait(30)
        try:
            for _ in range(20):
                Meter(home, [ScriptedSink()], source="tests", ledger=False).close()
        except MeteringError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert failures == []


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
    parent, hooked = os.getpid(), system._fork_aware

    def child():
        system._fork_aware, system._pid = hooked, parent
        sink.taken.clear()
        if len(meter.calls) != 0:
            return False
        start(meter, "own")
        meter.calls.end("own", "completed", REPORT)
        return meter.close() and len(sink.taken) == 1

    monkeypatch.setattr(system, "_fork_aware", type(hooked)())
    assert in_child(child)
    monkeypatch.undo()

    meter.calls.end("the parent's", "completed", REPORT)
    assert meter.flush()
    assert len(sink.taken) == 2


def test_asking_for_usage_without_a_ledger_says_so(meter):
    """Where the ledger is off, usage is kept elsewhere."""
    with pytest.raises(LedgerError, match="switched off"):
        meter.usage()


def test_usage_holds_everything_recorded_so_far(home):
    """Also what no thread has shipped yet."""
    with Meter(home, source="tests", sinks=()) as meter:
        call(meter, 3)

        assert meter.usage("calls_total").rows[0].value == 3
