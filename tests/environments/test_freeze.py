"""A process that is stopped and goes on later, as AWS Lambda freezes and thaws its own."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_metering.sinks import http, open_sink
from llm_metering.testing.faults import Hang
from llm_metering.transport.status import home_status
from tests.factories import batch_of, make_event
from tests.transport.harness import run_child

from .children import PRELUDE, assert_all_counted, eventually, sent

HANDLER = f"""
{PRELUDE}
@llm_metering.flush_after(timeout=30)
def handler():
    meter_call()

for _ in sys.stdin:
    handler()
    print("returned", flush=True)
"""


@pytest.fixture
def function():
    """A process that handles a call for each line it is given."""
    process = run_child(HANDLER)
    yield process
    process.communicate(timeout=60)


def invoke(process):
    """Have one call handled, as far as it gets."""
    process.stdin.write("go\n")
    process.stdin.flush()


def returned(process):
    """The id of the event of the call, which has come to its end."""
    event_id, said = process.stdout.readline(), process.stdout.readline()
    assert said == "returned\n"
    return event_id.strip()


@contextmanager
def frozen(process):
    """The process stands still as long as the block lasts."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        eventually(lambda: state_of(process.pid) == "T")
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def state_of(pid):
    """A process's state, as `ps` shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def retries(home):
    """Deliveries to the server that had to be tried again."""
    return [row["retries"] for row in home_status(home)["sinks"] if row["name"] == "openmeter"]


def test_a_function_has_shipped_when_it_returns(home, server, function):
    """Nothing of a call is left for a thaw that may never come."""
    ids = []
    for number in range(3):
        invoke(function)
        ids.append(returned(function))
        with frozen(function):
            assert len(sent(server)) == number + 1
            assert retries(home) == [0]

    function.communicate(timeout=60)
    assert sent(server) == ids
    assert_all_counted(home, server, ids)


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(home, server, function):
    """After a thaw a new connection is made; nothing is tried in vain, and nothing twice."""
    invoke(function)
    ids = [returned(function)]
    with frozen(function):
        server.down()
        server.up()
    invoke(function)
    ids.append(returned(function))

    function.communicate(timeout=60)
    assert retries(home) == [0]
    assert sent(server) == ids
    assert_all_counted(home, server, ids)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "cut off"])
def test_a_freeze_in_the_midst_of_a_request_loses_nothing(home, server, function, answered):
    """The answer is read after the thaw; if there is none, the batch is sent again under its ids."""
    server.order(Hang())
    invoke(function)
    assert server.wait_until(lambda: server.hanging)
    with frozen(function):
        if answered:
            server.release()
            eventually(lambda: not server.hanging)
        else:
            server.down()
            server.up()
    event_id = returned(function)

    function.communicate(timeout=60)
    assert set(sent(server)) == {event_id}
    assert_all_counted(home, server, [event_id])


def test_a_connection_is_not_used_after_a_long_rest(server, monkeypatch):
    """Also if the monotonic clock knows nothing of it, as in a virtual machine that was frozen."""
    now = time.time

    def ports(rest):
        sink = open_sink(server.sink_url, source="tests")
        with monkeypatch.context() as patch:
            sink.deliver(batch_of([make_event()]))
            patch.setattr(http.time, "time", lambda: now() + rest)
            sink.deliver(batch_of([make_event()]))
        sink.close()
        return len({request.client for request in server.received[-2:]})

    # By the monotonic clock, httpx itself does not use one again after five seconds.
    assert [ports(1), ports(31)] == [1, 2]
