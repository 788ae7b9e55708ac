"""Writes that keep the interpreter's lock: when they are asked for, and that they are writes."""

from __future__ import annotations

import os
import threading

import pytest

from llm_metering import system
from llm_metering.mounts import is_on_local_disk
from llm_metering.transport import holding_write
from llm_metering.transport.stalls import HELD_TOO_LONG, HOLD_AGAIN_AFTER, STALL, Stalls

from .harness import ids_on_disk, journal_for, record

SWITCH = 0.005
"""CPython's switch interval: what a write beside a thread that computes takes."""


def contend(stalls, *, times=3, start=100.0):
    """So many writes during which the process computed, one each second."""
    for number in range(times):
        stalls.wrote(SWITCH, busy=SWITCH if number else 0.0, now=start + number)


def test_writes_beside_threads_that_compute_ask_for_it():
    """Three within seconds; quick ones between them change nothing."""
    stalls = Stalls()
    contend(stalls, times=2)
    assert not stalls.holds
    stalls.wrote(0.00001, busy=0.0, now=102.0)
    stalls.wrote(SWITCH, busy=SWITCH, now=103.0)

    assert (stalls.holds, stalls.is_stalled) == (True, False)


def test_quick_writes_are_heeded_where_they_say_something():
    """That a disk is well again, and that a contention is long ago; not between contended writes, of
    which there are thousands."""
    stalls = Stalls()
    contend(stalls, times=2)
    assert stalls.watches
    assert (stalls.heeds(101.5), stalls.heeds(112.0)) == (False, True)
    stalls.wrote(0.00001, busy=0.0, now=112.0)
    assert not stalls.watches

    stalls.wrote(STALL, busy=0.0, now=113.0)
    assert stalls.heeds(113.1)


@pytest.mark.parametrize(
    ("busy", "every"),
    [
        pytest.param(0.0, 1.0, id="the disk is slow"),
        pytest.param(SWITCH, 60.0, id="once a minute"),
    ],
)
def test_what_does_not_ask_for_it(busy, every):
    """A slow disk is not to hold up all threads, and a rare wait is nothing to act on."""
    stalls = Stalls()
    for number in range(20):
        stalls.wrote(SWITCH, busy=busy, now=100.0 + number * every)

    assert not stalls.holds


def test_a_write_that_held_the_process_up_ends_it_for_a_while():
    """The disk is in the way then, and only the writing thread is to wait for it."""
    stalls = Stalls()
    contend(stalls)
    stalls.wrote(SWITCH, busy=0.0, now=103.0, held=True)
    assert stalls.holds
    stalls.wrote(HELD_TOO_LONG, busy=0.0, now=104.0, held=True)
    assert not stalls.holds

    contend(stalls, start=105.0)
    assert not stalls.holds
    contend(stalls, start=104.0 + HOLD_AGAIN_AFTER)
    assert stalls.holds


def test_it_writes_what_it_is_given(tmp_path):
    """Bytes with zeros, appended, and as many as it says."""
    write = system.HoldingWrite()
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        assert write(descriptor, b"a\0b") == 3
        assert write(descriptor, b"c") == 1
    finally:
        os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"a\0bc"
    with pytest.raises(OSError, match="Bad file descriptor"):
        write(descriptor, b"d")


def test_a_journal_beside_a_thread_that_computes_changes_over(home, monkeypatch):
    """Without a hint: a real thread computes, and after some records the lock is kept."""
    monkeypatch.setattr(holding_write, "is_on_local_disk", lambda _: True)
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            pass

    threads = [threading.Thread(target=compute, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    journal, ids = journal_for(home), []
    try:
        while journal._place.writer.holding_write is None:
            ids += record(journal)
            stop.wait(0.001)
        ids += record(journal, 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    journal.close()

    assert ids_on_disk(home) == ids


def test_a_server_is_never_waited_for_like_that(home, monkeypatch):
    """On a file system that is not known to be local, nothing keeps the lock."""
    monkeypatch.setattr(holding_write, "is_on_local_disk", lambda _: False)
    journal = journal_for(home)
    contend(journal._appender.stalls)
    journal._upkeep.work()

    assert journal._place.writer.holding_write is None
    assert record(journal) == ids_on_disk(home)
    journal.close()


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        pytest.param("ext4", True, id="a disk"),
        pytest.param("nfs4", False, id="a server"),
        pytest.param("fuse.sshfs", False, id="a program"),
    ],
)
def test_which_file_systems_are_local(tmp_path, monkeypatch, kind, local):
    """What is not known to be a disk of this machine is taken for none."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/x / {kind} rw 0 0\n")
    monkeypatch.setattr("llm_metering.mounts.MOUNTS", mounts)

    assert is_on_local_disk(tmp_path) is local
