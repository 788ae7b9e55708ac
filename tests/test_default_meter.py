"""The process-wide default meter: one of it, replaced and closed as a whole."""

from __future__ import annotations

import signal
import threading
import time

import pytest

import llm_metering
from llm_metering import default_meter
from llm_metering.errors import MeteringError
from llm_metering.meter import Meter
from tests.forking import in_child
from tests.metering import REPORT, call, start
from tests.transport.harness import ScriptedSink, down


@pytest.fixture
def default_home(home, monkeypatch):
    """The home of the default meter, which is closed at the end."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    yield home
    llm_metering.close(0)


def test_configure_replaces_the_default_and_closes_the_old_one(default_home):
    """The new one is everybody's from then on; what the old one had is shipped first."""
    old_sink, new_sink = ScriptedSink(), ScriptedSink()
    old = llm_metering.configure(sinks=[old_sink], ledger=False)
    call(old, 2)

    new = llm_metering.configure(sinks=[new_sink], ledger=False)

    assert llm_metering.get_meter() is new is not old
    assert (len(old_sink.taken), old_sink.closings, new_sink.closings) == (2, 1, 0)


def test_what_earlier_processes_left_is_shipped_without_a_call(default_home):
    """An application that restarts and then waits for work ships what it had not shipped."""
    before = Meter(sinks=[ScriptedSink(*[down] * 99)], ledger=False)
    call(before, 2)
    before.close(0)

    sink = ScriptedSink()
    llm_metering.configure(sinks=[sink], ledger=False)

    while len(sink.taken) < 2:
        time.sleep(0.01)


def test_a_call_in_flight_outlives_its_meter(default_home):
    """A call that ends after `configure` is billed in full, by the meter it began with."""
    old_sink, new_sink = ScriptedSink(), ScriptedSink()
    old = llm_metering.configure(sinks=[old_sink], ledger=False)
    start(old)

    new = llm_metering.configure(sinks=[new_sink], ledger=False)
    old.calls.end("run", "completed", REPORT)
    call(new)

    assert old.flush()
    assert new.flush()
    assert (len(old_sink.taken), len(new_sink.taken)) == (1, 1)
    llm_metering.configure(sinks=[new_sink], ledger=False)
    assert old_sink.closings == 1


def test_a_bad_setting_leaves_the_default_as_it_was(default_home):
    """A meter that cannot be made replaces none."""
    before = llm_metering.get_meter()

    with pytest.raises(MeteringError):
        llm_metering.configure(sinks="nonsense://")

    assert llm_metering.get_meter() is before


def test_closing_the_default_is_for_now(default_home):
    """Whoever needs it after that gets a new one; with none there is nothing to wait for."""
    before = llm_metering.get_meter()

    assert llm_metering.close()
    assert llm_metering.flush()
    assert llm_metering.close()
    assert llm_metering.get_meter() is not before


def test_racing_threads_get_one_meter(default_home):
    """Whoever is first, one process has one default meter."""
    barrier, found = threading.Barrier(12), []

    def work():
        barrier.wait(30)
        found.append(llm_metering.get_meter())

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 12
    assert len(set(map(id, found))) == 1


def test_a_child_gets_its_default_whatever_its_parents_threads_did(default_home):
    """A fork while another thread was making the default meter does not leave it locked."""
    locked, done = threading.Event(), threading.Event()

    def make():
        with default_meter._default_lock:
            locked.set()
            done.wait(30)

    thread = threading.Thread(target=make)
    thread.start()
    assert locked.wait(30)

    def child():
        signal.alarm(20)  # it kills a child that hangs
        return llm_metering.get_meter() is not None

    try:
        assert in_child(child)
    finally:
        done.set()
        thread.join()
