"""Forks: each process ships what it recorded itself, and dies without taking a lock along."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
import weakref
from contextlib import contextmanager

import pytest

from llm_metering import system
from llm_metering.sinks.base import Delivery
from llm_metering.system import forks
from llm_metering.transport.counters import locked_counters
from llm_metering.transport.cursor import Cursor
from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool, debt_of
from tests.forking import in_child

from .harness import (
    ScriptedSink,
    ids_on_disk,
    journal_for,
    note_open,
    pump,
    record,
    run_child,
    shipper_for,
    unique,
)


@contextmanager
def idle_child():
    """A forked child that does nothing as long as the block lasts."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_parent_and_child_ship_their_own(home):
    """What was recorded before a fork and after it on both sides is shipped once, by its writer."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    before = record(journal)

    def child():
        own = record(journal)
        pump(shipper, adopt=True)
        return sink.taken == own and journal.recorded == 1

    assert in_child(child)
    after = record(journal)
    pump(shipper)

    assert sink.taken == before + after
    assert len(unique(ids_on_disk(home))) == 3
    journal.close()


def test_a_child_ships_nothing_of_its_parent_that_it_had_begun(home):
    """A batch that the parent has read ahead is not offered by a child as well."""
    sink = ScriptedSink(_first_only)
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    record(journal, 3)
    pump(shipper)

    def child():
        sink.offered.clear()
        pump(shipper, adopt=True)
        shipper.finish_close()
        return sink.offered == []

    assert in_child(child)
    (segment,) = journal.segments()
    assert Cursor.acquire(Spool(home), segment.name, shipper.debt) is None, "it is the parent's"
    journal.close()


def _first_only(batch):
    first, *rest = [each.id for each in batch]
    return Delivery(accepted=frozenset([first]), retryable=frozenset(rest), reason="half")


def test_a_child_unlocks_nothing_of_its_parent(home):
    """After a child has ended, its parent still counts as alive."""
    journal = journal_for(home)
    open_call = note_open(journal)

    assert in_child(lambda: bool(record(journal)))
    assert in_child(lambda: journal.close() is None)

    assert not settle_writer(Spool(home), journal.writer)
    assert open_call not in ids_on_disk(home)
    journal.close()


PARENT = """
import os, sys, time
from pathlib import Path
from tests.transport.harness import ScriptedSink, down, journal_for, note_open, pump, record, shipper_for

sink = ScriptedSink(down)
journal = journal_for(Path(sys.argv[1]), sink)
shipper = shipper_for(journal, sink)
note_open(journal)
record(journal)
pump(shipper)
writer = journal.writer
if os.fork() == 0:
    if sys.argv[2] == "recording":
        record(journal)
    print(os.getpid(), writer, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("child_is", ["idle", "recording"])
def test_a_parents_death_frees_its_segments_while_its_child_lives(home, child_is):
    """A child holds no lock of its parent: what the dead parent left can be adopted at once."""
    process = run_child(PARENT, home, child_is)
    child, writer = process.stdout.readline().split()
    sink = ScriptedSink()
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        os.kill(int(child), 0)  # it lives
        assert settle_writer(Spool(home), writer)
        heir = shipper_for(journal_for(home), sink)
        pump(heir)
        name = Spool(home).segments()[0]
        assert Cursor.acquire(Spool(home), name, debt_of(sink)) is not None
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.communicate()


def test_a_fork_during_a_fold_leaves_nobody_locked_out(home):
    """A child that was forked while its parent held a lock for a moment does not keep it."""
    spool = Spool(home)
    journal = journal_for(home)
    record(journal)
    (name,) = spool.segments()
    path = spool.folder / "counters.lock"
    with locked_counters(spool, exclusive=True):
        cursor = Cursor.acquire(spool, name, debt_of(ScriptedSink()))
        child = idle_child()
        child.__enter__()
        cursor.close()
    try:
        lock = system.lock_file(path)
        assert lock is not None
        system.unlock_file(lock)
        again = Cursor.acquire(spool, name, debt_of(ScriptedSink()))
        assert again is not None
        again.close()
    finally:
        child.__exit__(None, None, None)
        journal.close()


def test_a_fork_while_another_thread_records(home):
    """A child can record whatever its parent's threads were doing when it was forked."""
    journal = journal_for(home, segment_bytes=2000)
    recorded: list[str] = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            recorded.extend(record(journal))
            # A machine that is busy may look like a disk that stalls, and memory has an end.
            while journal.held > 100:
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        results = [in_child(lambda: len(record(journal, 3)) == 3) for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    while journal.held:
        time.sleep(0.01)
    assert all(results)
    on_disk = unique(ids_on_disk(home))
    assert not set(recorded) - on_disk
    assert len(on_disk) == len(recorded) + 60
    journal.close()


def test_a_fork_without_hooks_is_noticed(home, monkeypatch):
    """A fork made in C, such as uWSGI's, runs no hook; the child's first record notices it."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    before = record(journal)
    writer, parent, hooked = journal.writer, os.getpid(), forks._fork_aware

    def child():
        # As if no hook had run: not a real C fork, after which CPython itself may hang.
        forks._fork_aware, forks._pid = hooked, parent
        own = record(journal)
        pump(shipper)
        return sink.taken == own and journal.writer != writer

    monkeypatch.setattr(forks, "_fork_aware", weakref.WeakSet())
    assert in_child(child)
    monkeypatch.undo()
    after = record(journal)

    assert not settle_writer(Spool(home), writer)
    assert len(unique(ids_on_disk(home))) == 3
    assert set(before + after) <= set(ids_on_disk(home))
    journal.close()
