"""What a reader is told, and what is kept, when the moment is a bad one."""

import contextlib
import logging
import os
import sqlite3
import sys

import pytest

from llm_metering import system
from llm_metering.calls import CallStart, Report
from llm_metering.errors import HomeError, LedgerError
from llm_metering.meter import Meter
from llm_metering.subjects import Attribution, Rank
from llm_metering.token_usage import TokenUsage
from llm_metering.transport import recovery
from llm_metering.transport.cursor import Cursor
from llm_metering.transport.spool import Spool
from tests.forking import in_child
from tests.transport.harness import (
    ScriptedSink,
    down,
    events_on_disk,
    ids_on_disk,
    journal_for,
    let_go,
    note_open,
    record,
    shipper_for,
)

REPORT = Report(usage=TokenUsage(input_tokens=100, output_tokens=20))
START = CallStart(
    attribution=Attribution(subject="customer-42", rank=Rank.HANDLER),
    framework="none",
    operation="chat",
)


def call(meter, key):
    """Meter one call."""
    meter.calls.start(key, START)
    meter.calls.end(key, "completed", REPORT)


@pytest.fixture
def locked():
    """Keep a ledger locked, as a backup does."""
    with contextlib.ExitStack() as stack:

        def lock(home):
            connection = stack.enter_context(
                contextlib.closing(sqlite3.connect(home / "ledger.db"))
            )
            connection.execute("BEGIN IMMEDIATE")
            return connection

        yield lock


def test_usage_is_never_short_in_silence(home, locked, monkeypatch):
    """What the ledger has not taken is no part of an answer: so there is none, unless asked for."""
    monkeypatch.setattr("llm_metering.ledger._files.BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr("llm_metering.meter.wired.FLUSH_TIMEOUT", 0.2)
    with Meter(home, ()) as meter:
        call(meter, "before")
        assert meter.usage().total == 120
        lock = locked(home)
        meter._ledger.close()  # it is opened again, with the shorter patience
        call(meter, "behind")

        with pytest.raises(LedgerError, match="short"):
            meter.usage()
        assert meter.usage(allow_incomplete=True).total == 120

        lock.rollback()
        assert meter.flush()
        assert meter.usage().total == 240


def test_a_shortage_of_descriptors_passes(home, monkeypatch):
    """A segment that could not be opened once is taken the next time: its lock was let go."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    shipper = shipper_for(journal, sink)
    name = journal.segments()[0].name
    real = os.open

    def short(path, *args, **kwargs):
        if str(path).endswith(".seg"):
            raise OSError(24, "Too many open files")
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", short)
        with pytest.raises(OSError, match="Too many"):
            Cursor.acquire(Spool(home), name, shipper.debt, own=True)
    cursor = Cursor.acquire(Spool(home), name, shipper.debt, own=True)

    assert cursor is not None
    cursor.close()
    let_go(journal)


def test_a_call_that_starts_while_the_meter_closes_keeps_its_writer(home):
    """The writer is not given up for dead with a call open: its end is recorded, once, as it was."""
    meter = Meter(home, [ScriptedSink(*[down] * 50)], ledger=False)
    call(meter, "before")
    close_table = meter.calls.close

    def late_start():
        close_table()
        meter.calls.start("late", START)

    meter._calls.close = late_start
    meter.close(0)

    assert recovery.settle_writer(Spool(home), meter._journal.writer) is False
    meter.calls.end("late", "completed", REPORT)
    statuses = [event["data"]["status"] for event in events_on_disk(home)]
    assert statuses == ["completed", "completed"]
    assert len(set(ids_on_disk(home))) == 2


def test_close_does_not_call_it_done_while_records_are_in_memory(home, monkeypatch, caplog):
    """With the disk full, what is held dies with the process: `close` says so, and logs it."""
    meter = Meter(home, [ScriptedSink()], ledger=False)
    real = os.write

    def full(descriptor, data):
        if descriptor > 2:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        call(meter, "lost")
        with caplog.at_level(logging.ERROR):
            assert meter.close(0) is False
    assert "are lost if this process ends now" in caplog.text


def test_a_fork_in_the_midst_of_closing_still_begins_a_writer(home):
    """A descriptor the parent had just closed does not keep the child from beginning anew."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    parent = journal.writer
    os.close(journal._place.writer._descriptor)  # and not noted yet

    def work():
        return journal.writer != parent and len(record(journal)) == 1

    assert in_child(work)
    journal._place.writer._descriptor = None


def test_one_that_fails_after_a_fork_does_not_keep_the_others(home, monkeypatch):
    """Each fork hook runs, whatever another one does."""

    class Broken:
        def after_fork(self):
            raise RuntimeError

    broken = [Broken() for _ in range(3)]
    for each in broken:
        system.on_fork(each)
    journal = journal_for(home, ScriptedSink())
    record(journal)
    parent = journal.writer

    assert in_child(lambda: journal.writer != parent)
    let_go(journal)


def test_interrupted_calls_are_not_written_again_by_a_latecomer(home, monkeypatch):
    """Somebody settled the writer, and shipped it, between another one's look and his lock."""
    journal = journal_for(home, ScriptedSink())
    record(journal)
    note_open(journal)
    dead = journal.writer
    let_go(journal)
    spool = Spool(home)
    look, looks = spool.is_finished, []

    def looked(writer):
        found = look(writer)
        if not looks:
            looks.append(writer)
            assert recovery.settle_writer(Spool(home), writer)
            last = spool.segments_of(writer)[-1]
            spool.segment_path(last).unlink()
        return found

    monkeypatch.setattr(spool, "is_finished", looked)
    recovery.settle_writer(spool, dead)

    assert len(spool.segments_of(dead)) == 1


def test_a_signal_behind_a_write_hides_no_event(home, monkeypatch):
    """Ctrl-C right after the bytes are in the file: the segment's end is where the file's is."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    real = os.write

    def interrupted(descriptor, data):
        real(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record(journal)
    (segment,) = journal.segments()

    assert segment.size == Spool(home).segment_path(segment.name).stat().st_size
    let_go(journal)


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
def test_a_file_system_without_locks_is_refused_at_once(home, monkeypatch):
    """Where nobody can tell who lives, no journal is kept; the error says what to set."""
    monkeypatch.setattr(system, "lock_file", lambda path, **_: None)

    with pytest.raises(HomeError, match="LLM_METERING_HOME"):
        Meter(home, ())
