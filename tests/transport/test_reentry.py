"""Recording at the same time: from threads, from signal handlers, from the garbage collector."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading

import pytest

from llm_metering.events import encode
from tests.factories import make_event

from .harness import (
    ScriptedSink,
    empty,
    ids_on_disk,
    journal_for,
    note_open,
    record,
    shipper_for,
    unique,
)


def test_threads_record_side_by_side(home):
    """Many threads lose nothing, also while segments are rotated under them."""
    journal = journal_for(home, segment_bytes=2000)
    recorded: list[str] = []

    def work():
        recorded.extend(record(journal, 50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert unique(ids_on_disk(home)) == unique(recorded)
    assert journal.recorded == 400
    assert len(journal.segments()) > 10
    journal.close()


def test_a_record_inside_a_write_waits_its_turn(home, monkeypatch):
    """A finaliser that records while its own thread is writing neither hangs nor is lost."""
    journal = journal_for(home)
    inner: list[str] = []
    write = os.write

    def write_and_finalise(descriptor, data):
        if len(inner) < 3:
            inner.extend(record(journal))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_and_finalise)
    outer = record(journal)
    monkeypatch.undo()

    assert unique(ids_on_disk(home)) == unique(outer + inner)
    assert (len(inner), journal.recorded) == (3, 4)
    journal.close()


@pytest.mark.parametrize("moment", ["before the write", "after the write"])
def test_an_interrupt_in_the_middle_of_recording(home, monkeypatch, moment):
    """Ctrl-C during a write, as in a notebook, costs nothing that is recorded later."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    before, write = record(journal), os.write

    def interrupted(descriptor, data):
        if moment == "after the write":
            write(descriptor, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(journal)
    monkeypatch.undo()
    after = record(journal, 3)
    empty(shipper)

    assert set(before + after) <= unique(sink.taken)
    assert sink.taken == ids_on_disk(home)
    assert journal.recorded <= shipper.own_settled
    journal.close()


def test_an_interrupt_wherever_the_interpreter_looks_for_one(home):
    """Ctrl-C at any call made for a record leaves nobody out: what comes next is in a file at once."""
    journal = journal_for(home)
    ids, places = record(journal), 0
    event = make_event()
    while interrupts_after(places, lambda: journal.record(event.id, encode(event))):
        places += 1
        ids += record(journal)
        assert ids_on_disk(home)[-1] == ids[-1]

    assert places > 10
    assert set(ids) <= set(ids_on_disk(home))
    journal.close()


def interrupts_after(places, work):
    """Have `work` interrupted; returns whether there were so many places before its end.

    CPython looks for signals when a function of Python's begins and when one of C's has ended.
    """
    left = places

    def interrupt(frame, event, argument):
        nonlocal left
        if event in ("call", "c_return"):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_signal_handler_may_record(home):
    """A signal that arrives in the middle of recording may record as well."""
    journal = journal_for(home, segment_bytes=5000)
    inner: list[str] = []
    before = signal.signal(signal.SIGVTALRM, lambda *_: inner.extend(record(journal)))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        outer = record(journal, 2000)
        while len(inner) < 5:
            outer += record(journal)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

    assert unique(ids_on_disk(home)) == unique(outer + inner)
    assert journal.recorded == len(outer) + len(inner)
    journal.close()


class Dropped:
    """Records when it is collected, as an abandoned stream does; part of a cycle."""

    def __init__(self, journal, recorded):
        self.journal, self.recorded, self.me = journal, recorded, self

    def __del__(self):
        self.recorded.extend(record(self.journal))


def test_garbage_collection_in_the_middle_of_recording(home):
    """Collections wherever the journal allocates, from several threads, lose nothing."""
    journal = journal_for(home, segment_bytes=3000)
    recorded: list[str] = []
    dropped: list[str] = []
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:

        def work():
            for _ in range(40):
                Dropped(journal, dropped)
                note_open(journal)
                recorded.extend(record(journal))
                journal.segments()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
    finally:
        gc.set_threshold(*before)

    assert (len(recorded), len(dropped)) == (160, 160)
    assert unique(ids_on_disk(home)) == unique(recorded + dropped)
    journal.close()


def test_closing_while_the_syncer_syncs(home):
    """Closing takes over what the syncing thread has not synced, whoever gets there first."""
    for _ in range(100):
        journal = journal_for(home)
        event = make_event()
        journal.record(event.id, encode(event))
        threads = [threading.Thread(target=journal._place.writer.sync) for _ in range(3)]
        for thread in threads:
            thread.start()
        journal.close()
        for thread in threads:
            thread.join()
