"""What every sink has had is kept for a while, in bounds, and counts nothing twice."""

from __future__ import annotations

import errno
import os
import time

import pytest

from llm_metering import system
from llm_metering.meter import Meter
from llm_metering.sinks.memory import MemorySink
from llm_metering.token_usage import TokenUsage
from llm_metering.transport import kept
from llm_metering.transport.frames import Kind, parse_frames
from llm_metering.transport.kept import give_way, kept_segments, prune_kept
from llm_metering.transport.payloads import event_id
from llm_metering.transport.recovery import tidy
from llm_metering.transport.retention import Retention
from llm_metering.transport.spool import SegmentName, Spool
from llm_metering.transport.status import home_status

from .harness import ScriptedSink, empty, journal_for, let_go, record, shipper_for, sink_row

HOUR = 3600


class Killed(BaseException):
    """What stands for a kill between two steps."""


def ship_all(home, sink=None, events=3):
    """Record events, kill the process, and have another one deliver them; their ids."""
    sink = sink or ScriptedSink()
    journal = journal_for(home, sink)
    ids = record(journal, events)
    let_go(journal)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    return ids


def ids_in(path):
    """The ids of the events in a segment's file."""
    frames = parse_frames(path.read_bytes()).frames
    return [event_id(frame.payload) for frame in frames if frame.kind == Kind.EVENT]


def put_kept(spool, number, *, hours_ago, size=100):
    """A kept segment of that size, which was moved so many hours ago."""
    name = SegmentName("writer", number)
    spool.kept_folder.mkdir(parents=True, exist_ok=True)
    spool.kept_path(name).write_bytes(bytes(size))
    moved = time.time() - hours_ago * HOUR
    os.utime(spool.kept_path(name), (moved, moved))
    return name


def test_a_segment_that_every_sink_has_is_kept(home):
    """It leaves the journal whole, and stays counted."""
    ids = ship_all(home)

    spool = Spool(home)
    (name,) = kept_segments(spool)
    assert spool.segments() == []
    assert ids_in(spool.kept_path(name)) == ids
    assert spool.kept_path(name).stat().st_mode & 0o777 == 0o600
    assert spool.kept_folder.stat().st_mode & 0o777 == 0o700
    assert sink_row(home) == {"recorded": 3, "acked": 3, "pending": 0, "dead": 0, "dropped": 0}


def test_the_time_begins_with_the_move(home):
    """A segment that waited for its sink for a week is kept as long as any other."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    os.utime(spool.segment_path(name), (0, 0))

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    tidy(spool)

    assert kept_segments(spool) == [name]


@pytest.mark.parametrize(
    "retention",
    [
        pytest.param({"retention_hours": 0}, id="no time"),
        pytest.param({"retention_bytes": 0}, id="no room"),
    ],
)
def test_nothing_is_kept_where_nobody_wants_it(home, retention):
    """The settings reach the journal: what every sink has is deleted at once."""
    with Meter(home=home, sinks=[MemorySink()], ledger=False, **retention) as meter:
        meter.record(TokenUsage(input_tokens=1, output_tokens=1), "acme")

    spool = Spool(home)
    assert (spool.segments(), kept_segments(spool)) == ([], [])
    assert home_status(home)["recorded"] == 1


def test_a_meter_keeps_by_default(home):
    """Without settings what was delivered can be replayed."""
    with Meter(home=home, sinks=[MemorySink()], ledger=False) as meter:
        event = meter.record(TokenUsage(input_tokens=1, output_tokens=1), "acme")

    spool = Spool(home)
    (name,) = kept_segments(spool)
    assert ids_in(spool.kept_path(name)) == [event.id]


def test_what_is_too_old_goes(home):
    """Segments go one by one as their time is up, and what is not ours stays."""
    spool = Spool(home, retention=Retention(hours=72))
    put_kept(spool, 0, hours_ago=73)
    put_kept(spool, 1, hours_ago=80)
    young = put_kept(spool, 2, hours_ago=71)
    note = spool.kept_folder / "README"
    note.write_text("of an operator")
    os.utime(note, (0, 0))

    tidy(spool)

    assert kept_segments(spool) == [young]
    assert note.exists()


def test_the_oldest_go_when_there_are_too_many_bytes(home):
    """What is kept stays within its bound, by what it takes on disk."""
    spool = Spool(home, retention=Retention(max_bytes=20_480))
    put_kept(spool, 0, hours_ago=1, size=9000)
    names = [put_kept(spool, number, hours_ago=number) for number in (5, 4, 3, 2)]
    # 12 KiB and four blocks of 4 KiB: two too many.

    freed = prune_kept(spool)

    assert freed == 8192
    assert kept_segments(spool) == sorted([SegmentName("writer", 0), *names[2:]])


def test_a_large_segment_makes_room_at_once(home):
    """The bound does not wait for the next tidying where much is kept quickly."""
    spool = Spool(home, retention=Retention(max_bytes=3 << 20))
    for number in range(4):
        name = SegmentName("writer", number)
        spool.folder.mkdir(parents=True, exist_ok=True)
        spool.segment_path(name).write_bytes(bytes(1 << 20))
        kept.keep_segment(spool, name)
        moved = time.time() - HOUR + number
        os.utime(spool.kept_path(name), (moved, moved))

    assert [name.number for name in kept_segments(spool)] == [1, 2, 3]


def test_kept_segments_give_way_to_a_full_disk(home):
    """As many as are needed, the oldest first; what was asked beyond that is not there."""
    spool = Spool(home)
    for number in (1, 2, 3):
        put_kept(spool, number, hours_ago=10 - number)

    assert give_way(spool, 5000) == 8192
    assert [name.number for name in kept_segments(spool)] == [3]
    assert give_way(spool, 1 << 30) == 4096
    assert give_way(spool, 1) == 0


def test_a_segment_that_cannot_be_kept_is_in_nobodys_way(home, caplog):
    """Where no folder can be made, what every sink has is deleted, and that is said."""
    sink = ScriptedSink()
    Spool(home).make()
    Spool(home).kept_folder.write_text("not a folder")

    ship_all(home, sink)

    assert Spool(home).segments() == []
    assert "cannot be kept" in caplog.text
    assert sink_row(home)["acked"] == 3


def test_sums_that_do_not_fit_take_the_place_of_kept_segments(home, monkeypatch):
    """A disk too full to fold a segment is helped by what is kept, and the fold succeeds then."""
    spool = Spool(home)
    for number in range(3):
        put_kept(spool, number, hours_ago=1)
    real = system.replace_file

    def replace_file(path, content):
        if path.name == "counters.json" and kept_segments(spool):
            raise OSError(errno.ENOSPC, "no space")
        real(path, content)

    monkeypatch.setattr(system, "replace_file", replace_file)
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    let_go(journal)

    shipper = shipper_for(journal_for(home, sink), sink)
    empty(shipper, adopt=True)
    assert len(spool.segments()) == 1
    empty(shipper, adopt=True)

    assert (len(spool.segments()), len(kept_segments(spool))) == (0, 1)
    assert sink_row(home)["acked"] == 1


CRASHES = {
    "after the fold": ("os", "utime"),
    "before the move": ("os", "replace"),
    "after the move": ("pathlib.Path", "unlink"),
}


@pytest.mark.parametrize("step", CRASHES)
def test_a_crash_between_fold_and_move_counts_nothing_twice(home, monkeypatch, step):
    """Killed at any step, the next process finishes: each event once in the sums, and kept."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    ids = record(journal, 3)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    module, function = CRASHES[step]
    owner = kept.os if module == "os" else type(home)
    real = getattr(owner, function)

    def killed(path, *arguments, **options):
        target = str(path)
        if (function == "unlink") == target.endswith(".ack") and str(name) in target:
            raise Killed
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, killed)
        first = shipper_for(journal_for(home, sink), sink)
        with pytest.raises(Killed):
            empty(first, adopt=True)
        first.after_fork()

    before = home_status(home)
    assert (before["recorded"], sink_row(home)["acked"]) == (3, 3)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert home_status(home) == before
    assert spool.segments() == []
    assert ids_in(spool.kept_path(name)) == ids
    assert not list(spool.folder.glob("*.ack"))
    assert sink.taken == ids


def test_counts_go_on_while_a_folder_of_kept_segments_is_there(home):
    """What is kept is in no count, is adopted by nobody, and is never sent by itself."""
    sink = ScriptedSink()
    ship_all(home, sink)
    ship_all(home, sink, events=2)

    assert sink_row(home) == {"recorded": 5, "acked": 5, "pending": 0, "dead": 0, "dropped": 0}
    assert len(sink.taken) == 5
    assert len(kept_segments(Spool(home))) == 2
