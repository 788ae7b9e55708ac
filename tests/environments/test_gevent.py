"""gevent: threads are greenlets, and none of ours holds up the application's."""

from __future__ import annotations

import textwrap

import pytest

from llm_metering.testing.faults import Hang
from tests.transport.harness import run_child

from .children import PRELUDE, assert_all_counted, sent, ships_at_its_end

BEFORE, AFTER, LATE = "before", "after", "late"

PATCHED = f"""
import sys
if sys.argv[1] == "{BEFORE}":
    from gevent import monkey; monkey.patch_all()
{PRELUDE}
if sys.argv[1] == "{AFTER}":
    from gevent import monkey; monkey.patch_all()
meter = llm_metering.get_meter()
if sys.argv[1] == "{LATE}":
    from gevent import monkey; monkey.patch_all()
import gevent

def work(count):
    for _ in range(count):
        meter_call()
        gevent.sleep(0)

def record_together():
    gevent.joinall([gevent.spawn(work, 10) for _ in range(10)], raise_error=True)

beats = []
def heart():
    while True:
        beats.append(None)
        gevent.sleep(0.001)

gevent.spawn(heart)
"""

ORDERS = pytest.mark.parametrize(
    "order",
    [
        pytest.param(BEFORE, id="patched first"),
        pytest.param(AFTER, id="patched after the import"),
        pytest.param(LATE, id="patched when a meter is there"),
    ],
)


def output_of(code: str, *arguments: str) -> list[str]:
    """The lines that a child has printed which ended well and complained of nothing."""
    child = run_child(code, *arguments)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 0, stderr
    assert stderr == "" or not ships_at_its_end()
    return stdout.split()


@ORDERS
def test_greenlets_record_and_the_process_ships_and_ends(home, server, order):
    """What many greenlets record at a time is shipped once, at the latest when the process ends."""
    ids = output_of(f"{PATCHED}\nrecord_together()", order)

    assert len(ids) == 100
    if ships_at_its_end():
        assert sorted(sent(server)) == sorted(ids)
    assert_all_counted(home, server, ids)


@ORDERS
def test_a_flush_holds_up_nobody(home, server, order):
    """While one greenlet waits for a server that takes its time, the others run."""
    code = """
    meter_call()
    flushed = gevent.spawn(meter.flush, 40)
    gevent.sleep(0)
    seen = len(beats)
    while len(beats) < seen + 100:
        gevent.sleep(0.01)
    print("the heart beats", flush=True)
    sys.exit(not flushed.get())
    """
    server.order(Hang())
    child = run_child(PATCHED + textwrap.dedent(code), order)
    event_id = child.stdout.readline().strip()
    assert child.stdout.readline() == "the heart beats\n"
    assert server.wait_until(lambda: server.hanging)
    server.release()
    _, stderr = child.communicate(timeout=60)

    assert (child.returncode, stderr) == (0, "")
    assert_all_counted(home, server, [event_id])


@ORDERS
def test_a_call_that_waits_for_its_balance_holds_up_nobody(home, order):
    """Balances on another machine are asked by threads; who waits for these lets other greenlets run."""
    limited = """
    import os
    os.environ.update(LLM_METERING_LIMITS="on", LLM_METERING_LIMIT_DEADLINE="40")
    """
    code = """
    import time
    from llm_metering.calls import Call, CallStart
    from llm_metering.subjects import Attribution, Rank

    meter.grant("customer-42", 100_000)
    store, gate = meter.limits.store, meter.gate
    reserve, reserving, go_on = store.reserve, [], []

    def reserve_slowly(hold):
        reserving.append(hold)
        while not go_on:
            time.sleep(0.01)
        return reserve(hold)

    type(store).is_remote = True
    store.reserve = reserve_slowly
    payer = Attribution(subject="customer-42", rank=Rank.HANDLER)
    call = Call.begin(object(), CallStart(attribution=payer, reservation=gate.prepare()), 0.0)
    admitted = gevent.spawn(gate.admit, call)
    seen = len(beats)
    while not reserving or len(beats) < seen + 100:
        gevent.sleep(0.01)
    go_on.append(True)
    assert admitted.get() is None
    assert meter.balance("customer-42").reserved > 0
    call.reservation.release(lambda: None)
    gate.close()
    assert meter.balance("customer-42").reserved == 0
    """
    child = run_child(textwrap.dedent(limited) + PATCHED + textwrap.dedent(code), order)
    _, stderr = child.communicate(timeout=60)

    assert child.returncode == 0, stderr
    assert stderr == "" or not ships_at_its_end()


def test_a_drain_that_waits_its_turn_holds_up_nobody(home, server):
    """A greenlet that wants to ship while another one does lets that one finish."""
    code = """
    meter_call()
    first = gevent.spawn(meter.flush, 40)
    gevent.sleep(0.1)
    second = gevent.spawn(meter.drain, 40)
    gevent.sleep(0.1)
    print("both wait", flush=True)
    sys.exit(not (first.get() and second.get()))
    """
    server.order(Hang())
    child = run_child(PATCHED + textwrap.dedent(code), LATE)
    event_id = child.stdout.readline().strip()
    assert child.stdout.readline() == "both wait\n"
    assert server.wait_until(lambda: server.hanging)
    server.release()
    _, stderr = child.communicate(timeout=60)

    assert (child.returncode, stderr) == (0, "")
    assert_all_counted(home, server, [event_id])
