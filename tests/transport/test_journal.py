"""The journal: what was recorded is in a file before the caller goes on."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llm_metering.transport.recovery import open_calls
from llm_metering.transport.spool import SegmentName, Spool
from llm_metering.transport.status import home_status

from .harness import (
    ScriptedSink,
    down,
    empty,
    ids_on_disk,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    reject,
    run_child,
    shipper_for,
    unique,
)

RECORD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tests.transport.harness import journal_for, record

journal = journal_for(Path(sys.argv[1]))
print(*record(journal, 3), flush=True)
if sys.argv[2] == "exit":
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "death",
    [pytest.param("exit", id="_exit"), pytest.param(9, id="kill"), pytest.param(15, id="term")],
)
def test_what_was_recorded_survives_the_process(home, death):
    """However a process ends right after recording, its events are in a file."""
    printed, _ = run_child(RECORD_AND_DIE, home, death).communicate(timeout=60)

    assert unique(printed.split()) == unique(ids_on_disk(home))
    assert len(printed.split()) == 3


def test_an_event_is_in_the_file_before_the_next_line_runs(home):
    """Recording is over only when the event can be read by anybody."""
    journal = journal_for(home)

    for count in range(1, 4):
        record(journal)
        assert len(ids_on_disk(home)) == count
    journal.close()


def test_only_the_owner_may_look(home):
    """Customers' names are in the files: no one else may enter a folder or read one."""
    before = os.umask(0)
    try:
        sink = ScriptedSink(reject)
        journal = journal_for(home / "new" / "home", sink)
        record(journal)
        shipper = shipper_for(journal, sink)
        pump(shipper)
        journal.close()
        pump(shipper)
        shipper.finish_close()
    finally:
        os.umask(before)

    below = list((home / "new").rglob("*"))
    assert {path.name for path in below} >= {"counters.json", "dead"}
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in below if p.is_dir()} == {"0o700"}
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in below if p.is_file()} == {"0o600"}


def test_rotation_carries_open_calls_along(home):
    """A call that is under way is noted in the new segment too, so that the old one can go."""
    sink = ScriptedSink()
    journal = journal_for(home, sink, segment_bytes=1)
    shipper = shipper_for(journal, sink)
    open_call = note_open(journal)
    record(journal, 2)
    pump(shipper)
    pump(shipper)
    pump(shipper)

    # The last segment is the one being written.
    assert [name.number for name in Spool(home).segments()] == [2]
    assert home_status(home)["open_calls"] == 1

    let_go(journal, shipper)
    heir = shipper_for(journal_for(home, sink), sink)
    empty(heir, adopt=True)

    assert sink.taken.count(open_call) == 1
    assert home_status(home)["open_calls"] == 0


def test_the_old_segment_stays_until_the_new_one_holds_the_open_calls(home):
    """If no new segment can be begun, the one with the notes of calls under way stays."""
    sink = ScriptedSink(down)
    journal = journal_for(home, sink, segment_bytes=1)
    shipper = shipper_for(journal, sink)
    open_call = note_open(journal)
    obstacle = Spool(home).segment_path(SegmentName(journal.writer, 1))
    obstacle.touch()
    held = record(journal)
    pump(shipper)

    assert (journal.held, ids_on_disk(home)) == (1, [])
    assert home_status(home)["open_calls"] == 1

    obstacle.unlink()
    journal.close()
    assert ids_on_disk(home) == held
    assert open_call in open_calls(Spool(home), journal.writer)


def test_a_segment_that_is_old_is_ended(home, monkeypatch):
    """Where little is recorded, segments still come to an end, and can be deleted."""
    monkeypatch.setattr("llm_metering.transport.writer.SEGMENT_SECONDS", 0.0)
    journal = journal_for(home)
    ids = record(journal)
    journal.durable().result(60)
    ids += record(journal)

    assert [segment.finished for segment in journal.segments()] == [True, False]
    assert ids_on_disk(home) == ids
    journal.close()


def test_a_call_without_an_event_is_closed(home):
    """A call that the provider refused leaves nothing to settle, in any later segment."""
    journal = journal_for(home, segment_bytes=1)
    refused, under_way = note_open(journal), note_open(journal)
    record(journal)
    journal.note_closed(refused)
    record(journal)
    last = Spool(home).segments()[-1]
    let_go(journal)

    assert home_status(home)["open_calls"] == 1
    assert list(open_calls(Spool(home), last.writer)) == [under_way]
    assert refused.encode() not in Spool(home).segment_path(last).read_bytes()


def test_very_many_open_calls_do_not_fill_each_new_segment(home):
    """What is carried along does not count as full, or each record would begin a segment."""
    journal = journal_for(home, segment_bytes=10_000)
    for _ in range(100):
        note_open(journal)
    record(journal, 100)

    assert len(journal.segments()) < 20
    journal.close()


def test_a_record_after_close_is_kept_for_the_next_process(home):
    """A call that ends after the meter was closed is on disk, and shipped by who comes next."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    early = record(journal)
    journal.close()
    late = record(journal)
    let_go(journal)

    assert unique(ids_on_disk(home)) == unique(early + late)
    heir = shipper_for(journal_for(home, sink), sink)
    empty(heir, adopt=True)

    assert unique(sink.taken) == unique(early + late)
    assert Spool(home).segments() == []


def test_threads_that_look_at_a_home_at_once_fail_none(home, monkeypatch):
    """That a home can be written to is tried out, perhaps by several threads at a time."""
    unlink = Path.unlink

    def unlink_after_another_thread(path, **options):
        os.unlink(path)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink_after_another_thread)

    Spool(home).make()


def test_counted_notes_outlive_the_process(home):
    """What was counted for `status` is in the file with the events."""
    journal = journal_for(home)
    journal.count("failures", "on_llm_end", 2)
    journal.count("failures", "exit")
    let_go(journal)

    assert home_status(home)["failures"] == 3


@pytest.mark.parametrize("call", ["open", "write"])
def test_an_exception_of_a_signal_while_a_segment_is_begun(home, monkeypatch, call):
    """Ctrl-C, caught by the application: the journal goes on with another segment."""
    journal = journal_for(home)
    real = getattr(os, call)

    def interrupted(path, *args):
        monkeypatch.setattr(os, call, real)
        if call == "open":
            os.close(real(path, *args))
        raise KeyboardInterrupt

    record(journal)  # the writer's lock is there
    journal._place.writer._rotate_at = 0
    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(journal)
    ids = record(journal, 3)

    assert set(ids) <= set(ids_on_disk(home))
    assert journal.held == 0
    journal.close()
