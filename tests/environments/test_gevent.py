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
