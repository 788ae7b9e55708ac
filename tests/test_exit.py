"""The end of a process: short, whatever the sinks do, and with everything else on disk."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from llm_metering import at_exit
from llm_metering.testing import OpenMeterServer
from llm_metering.transport.status import home_status
from tests.transport.harness import (
    FakeClock,
    ScriptedSink,
    ids_on_disk,
    journal_for,
    record,
    run_child,
    shipper_for,
)

CHILD = """
import faulthandler, sys

import llm_metering, llm_metering.at_exit
from tests.metering import call, start

faulthandler.dump_traceback_later(30, exit=True)  # the child's own deadline
llm_metering.at_exit.EXIT_TIMEOUT = float(sys.argv[3])
meter = llm_metering.configure(home=sys.argv[1], sinks=sys.argv[2], source="tests")
call(meter, 3)
start(meter, "in flight")
print("recorded", flush=True)
"""


def finish(child: subprocess.Popen[str]) -> str:
    """Wait for a child that must end well; what it wrote to stderr."""
    stdout, stderr = child.communicate(timeout=60)
    assert (child.returncode, stdout) == (0, "recorded\n"), stderr
    return stderr


def rows(home):
    """Acknowledged and pending by sink."""
    return {row["name"]: (row["acked"], row["pending"]) for row in home_status(home)["sinks"]}


def test_an_ending_process_ships_what_it_has(home):
    """Nobody has to flush: a process that just ends has shipped what it recorded."""
    with OpenMeterServer() as server:
        stderr = finish(run_child(CHILD, home, server.sink_url, 5))

        assert stderr == ""
        assert len(server.events) == 4
    assert rows(home) == {"ledger": (4, 0), "openmeter": (4, 0)}
    assert ids_on_disk(home) == []


def test_a_process_ends_though_its_sink_is_down(home):
    """The healthy sinks are served; what the other one is owed waits on disk."""
    with OpenMeterServer() as server:
        server.down()
        stderr = finish(run_child(CHILD, home, server.sink_url, 1))

    assert "Traceback" not in stderr
    assert rows(home) == {"ledger": (4, 0), "openmeter": (0, 4)}
    assert len(set(ids_on_disk(home))) == 4


LAST_WORDS = """
class Late:
    meter = meter
    def __del__(self, call=call):
        print("taken apart:", sys.is_finalizing(), flush=True)
        call(self.meter)
        print("recorded again", flush=True)
keeper = Late()
"""


def test_what_a_finaliser_records_at_the_very_end_holds_up_no_process(home):
    """Threads run no more by then: it is on disk for the next process, and nobody waits for a thread."""
    with OpenMeterServer() as server:
        stdout, stderr = run_child(CHILD + LAST_WORDS, home, server.sink_url, 5).communicate(
            timeout=60
        )

        assert stdout == "recorded\ntaken apart: True\nrecorded again\n", stderr
        assert len(server.events) == 4
    assert len(ids_on_disk(home)) == 1


HOLDS = """
import atexit, threading, time
atexit.unregister(llm_metering.at_exit._close_all)
names = {"lock": meter._journal._appender.lock, "holds": threading.Event(), "time": time}
# In a namespace of its own: that of the module is to be taken apart.
code = "with lock: holds.set(); time.sleep(3600)"
threading.Thread(target=exec, args=[code, names], daemon=True).start()
names["holds"].wait()
"""


def test_what_another_thread_was_in_the_midst_of_is_not_waited_for_at_the_very_end(home):
    """It runs no more, and will never give the lock back; the call it held up was noted before."""
    child = run_child(CHILD + LAST_WORDS + HOLDS, home, "memory:", 0.1)
    stdout, stderr = child.communicate(timeout=60)

    assert stdout == "recorded\ntaken apart: True\nrecorded again\n", stderr


def test_several_meters_share_the_time_there_is(monkeypatch):
    """However many meters a process made, its end takes the exit timeout once."""
    clock = FakeClock()
    timeouts = []

    class Hanging:
        def guard(self, where):
            return contextlib.nullcontext()

        def close(self, timeout):
            timeouts.append(timeout)
            clock.now += min(timeout, 3.0)

    monkeypatch.setattr(at_exit, "_open", {Hanging(), Hanging(), Hanging()})
    monkeypatch.setattr(at_exit, "time", SimpleNamespace(monotonic=clock))
    at_exit._close_all()

    assert timeouts == [5.0, 2.0, 0.0]


@contextlib.contextmanager
def silent_server():
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connections.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"openmeter+http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_a_process_ends_though_its_sink_hangs(home):
    """A server that never answers holds up the end for the exit timeout, and not for its own."""
    with silent_server() as url:
        finish(run_child(CHILD, home, url, 1))

    assert rows(home) == {"ledger": (4, 0), "openmeter": (0, 4)}
    assert len(set(ids_on_disk(home))) == 4


@pytest.mark.parametrize("sinks", ["memory:", ""], ids=["a sink", "the ledger alone"])
def test_a_thread_that_still_records_at_the_end_hurts_nobody(home, sinks):
    """A daemon thread that calls models until the very end breaks nothing and loses nothing."""
    code = """
    import sys, threading
    import llm_metering, llm_metering.at_exit
    from tests.metering import call

    llm_metering.at_exit.EXIT_TIMEOUT = 0.5
    meter = llm_metering.configure(home=sys.argv[1], sinks=sys.argv[2], source="tests")
    enough = threading.Event()

    def work():
        while True:
            call(meter)
            if meter._journal.recorded > 50:
                enough.set()

    threading.Thread(target=work, daemon=True).start()
    enough.wait()
    print("recorded", flush=True)
    """
    stderr = finish(run_child(code, home, sinks))

    assert "Traceback" not in stderr
    status = home_status(home)
    assert status["recorded"] > 50
    for row in status["sinks"]:
        assert row["recorded"] == row["acked"] + row["pending"] == status["recorded"]


def test_the_end_waits_for_what_there_was_when_it_began(home):
    """However much is recorded while a sink is at it: that is for the next process."""

    class Feeding(ScriptedSink):
        def deliver(self, batch, /):
            record(journal)
            return super().deliver(batch)

    sink = Feeding()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=time.monotonic)
    before = record(journal, 2)
    shipper.begin_close(deadline=time.monotonic() + 3600)

    assert shipper.finish_close()
    assert sink.taken == before
    assert len(ids_on_disk(home)) == 3
    journal.close()
