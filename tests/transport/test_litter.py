"""What crashes leave half done: cleared away, unless it may be somebody's."""

from __future__ import annotations

import json
import os

import pytest

from llm_metering.transport.frames import Kind, encode_frame
from llm_metering.transport.recovery import settle_writer, tidy
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
    shipper_for,
)


def test_a_segment_that_was_never_begun_hides_no_open_call(home):
    """A process killed between making a segment and writing its header loses no call."""
    journal = journal_for(home)
    open_call = note_open(journal)
    writer = journal.writer
    let_go(journal)
    Spool(home).segment_path(SegmentName(writer, 1)).touch()

    assert settle_writer(Spool(home), writer)

    assert ids_on_disk(home) == [open_call]
    assert [name.number for name in Spool(home).segments()] == [0, 2]


def test_a_writer_that_only_began_a_segment_leaves_nothing(home):
    """A segment without a byte in it is neither damage nor litter."""
    journal, sink = journal_for(home), ScriptedSink()
    Spool(home).make()
    Spool(home).segment_path(SegmentName(journal.writer, 0)).touch()
    assert home_status(home)["damage"]["unreadable_segments"] == 0

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert list(Spool(home).folder.iterdir()) == []


def test_an_unreadable_segment_stays_and_is_shown(home):
    """A segment of a later version is neither shipped, nor settled, nor deleted."""
    journal = journal_for(home)
    record(journal)
    let_go(journal)
    (name,) = Spool(home).segments()
    path = Spool(home).segment_path(name)
    header = json.dumps({"version": 2, "writer": name.writer, "what": "nobody knows yet"}).encode()
    path.write_bytes(encode_frame(Kind.HEADER, header) + encode_frame(Kind.EVENT, b"\x00"))
    sink = ScriptedSink()

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert (sink.offered, path.exists()) == ([], True)
    assert home_status(home)["damage"]["unreadable_segments"] == 1
    assert not Spool(home).is_finished(name.writer)


def test_tidying_keeps_what_is_needed(home):
    """What belongs to a segment stays however old it is, what is new stays in any case."""
    sink, spool = ScriptedSink(down), Spool(home)
    finished, living = journal_for(home, sink), journal_for(home, sink)
    for journal in (finished, living):
        record(journal)
    pump(shipper_for(finished, sink))
    finished.close()
    (spool.folder / "counters.lock").touch()
    needed = {path.name for path in spool.folder.iterdir()}
    assert {name.rpartition(".")[2] for name in needed} == {"seg", "ack", "lock", "dead", "sink"}
    spool.ack_path(SegmentName("gone", 3), "debt").touch()
    for litter in ("gone.dead", "gone.lock", "counters.json.1.tmp"):
        (spool.folder / litter).touch()
    for path in spool.folder.iterdir():
        os.utime(path, (0, 0))
    for new in ("new.lock", "counters.json.2.tmp"):
        (spool.folder / new).touch()

    tidy(spool)

    assert {path.name for path in spool.folder.iterdir()} == needed | {
        "new.lock",
        "counters.json.2.tmp",
    }
    living.close()


@pytest.mark.parametrize(
    ("number", "size"),
    [
        pytest.param(0, 5, id="the first one, at once"),
        pytest.param(0, 100, id="the first one"),
        pytest.param(1, 100, id="the next one"),
    ],
)
def test_a_segment_whose_header_was_cut_short_is_cleared_away(home, number, size):
    """A process that dies while it begins a segment leaves neither damage nor litter."""
    sink = ScriptedSink()
    journal = journal_for(home, sink, segment_bytes=1)
    ids, writer = record(journal, number + 1), journal.writer
    let_go(journal)
    path = Spool(home).segment_path(SegmentName(writer, number))
    path.write_bytes(path.read_bytes()[:size])
    assert home_status(home)["damage"]["unreadable_segments"] == 0

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sink.taken == ids[:number]
    assert {path.suffix for path in Spool(home).folder.iterdir()} <= {"", ".json", ".lock", ".sink"}
    assert list(Spool(home).folder.glob("*.lock")) in ([], [Spool(home).folder / "counters.lock"])


def test_what_follows_a_damaged_header_is_not_cleared_away(home):
    """A header that claims to be longer than the file hides records, which are kept."""
    journal, sink = journal_for(home), ScriptedSink()
    record(journal)
    let_go(journal)
    (name,) = Spool(home).segments()
    path = Spool(home).segment_path(name)
    content = bytearray(path.read_bytes())
    content[6] ^= 1  # in the length: longer by 65536
    path.write_bytes(content)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert Spool(home).bad_path(name).read_bytes() == content
    assert home_status(home)["damage"]["quarantined_segments"] == 1
