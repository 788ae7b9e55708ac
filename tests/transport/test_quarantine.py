"""What a medium or a bug spoiled: put aside for a person, and in the way of nothing else."""

from __future__ import annotations

import json
import random

import pytest

from llm_metering.events import encode
from llm_metering.transport import quarantine
from llm_metering.transport.frames import Kind, encode_frame, parse_frames
from llm_metering.transport.operations import read_books, retry_letters
from llm_metering.transport.quarantine import quarantined
from llm_metering.transport.recovery import mend_segments, open_calls
from llm_metering.transport.spool import SegmentName, Spool, debt_of
from llm_metering.transport.status import home_status
from tests.factories import make_event

from .harness import (
    ScriptedSink,
    empty,
    ids_on_disk,
    journal_for,
    let_go,
    note_open,
    record,
    shipper_for,
    sink_row,
    write_ack,
)


def spoil(path, start, size=8):
    """Overwrite bytes of a file."""
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)


def two_segments(home, sink, events=2):
    """A dead writer with two segments of so many events; their ids by segment."""
    journal = journal_for(home, sink, segment_bytes=1)
    ids = []
    for _ in range(2):
        journal._place.writer._rotate_at = 0
        ids.append([])
        for _ in range(events):
            ids[-1] += record(journal)
            journal._place.writer._rotate_at = 1 << 30
    let_go(journal)
    assert len(Spool(home).segments()) == 2
    return ids


def test_a_damaged_middle_is_kept_as_it_was(home):
    """The spoiled segment is there byte for byte, for its owner alone, and is never deleted."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 3)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    spoil(spool.segment_path(name), -600)
    found = spool.segment_path(name).read_bytes()
    assert quarantined(spool) == []

    for _ in range(2):
        empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert quarantined(spool) == [name]
    assert spool.bad_path(name).read_bytes() == found
    assert spool.bad_path(name).stat().st_mode & 0o777 == 0o600
    assert spool.bad_folder.stat().st_mode & 0o777 == 0o700
    assert home_status(home)["damage"]["quarantined_segments"] == 1
    assert len(sink.taken) == 2


def test_evidence_is_kept_where_there_are_no_links(home, monkeypatch):
    """On a file system without second names it is copied."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 3)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    spoil(spool.segment_path(name), -600)
    found = spool.segment_path(name).read_bytes()

    def link(*_):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(quarantine.os, "link", link)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert spool.bad_path(name).read_bytes() == found


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_lost_header_is_taken_from_a_sibling(home, damaged, caplog):
    """Events behind a spoiled header go to the sinks that they are owed to."""
    sink = ScriptedSink()
    first, second = two_segments(home, sink)
    spool = Spool(home)
    name = spool.segments()[damaged]
    spoil(spool.segment_path(name), 4)
    found = spool.segment_path(name).read_bytes()
    assert home_status(home)["damage"]["unreadable_segments"] == 1

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sorted(sink.taken) == sorted(first + second)
    assert spool.bad_path(name).read_bytes() == found
    assert sink_row(home)["acked"] == 4
    damage = home_status(home)["damage"]
    assert (damage["unreadable_segments"], damage["quarantined_segments"]) == (0, 1)
    assert spool.segments() == []
    assert caplog.text.count("is damaged") == 1


def test_a_mended_segment_keeps_the_places_of_its_sinks(home):
    """What a sink had from the segment before it was spoiled is not sent again."""
    sink = ScriptedSink()
    first, second = two_segments(home, sink, events=3)
    spool = Spool(home)
    name = spool.segments()[0]
    frames = parse_frames(spool.segment_path(name).read_bytes()).frames
    ack = spool.read_ack(name, debt_of(sink).key)
    ack.offset = frames[2].end
    write_ack(home, name, debt_of(sink), ack)
    # Beyond the header into the first event.
    spoil(spool.segment_path(name), frames[0].end - 20, 60)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sorted(sink.taken) == sorted([first[2], *second])
    assert home_status(home)["damage"]["corrupt_bytes"] > 0


def test_a_mended_segment_is_the_same_however_often_it_is_killed(home, monkeypatch):
    """Killed after the evidence was kept, before the segment was mended, nothing is different."""
    sink = ScriptedSink()
    first, second = two_segments(home, sink)
    spool = Spool(home)
    spoil(spool.segment_path(spool.segments()[0]), 4)
    with monkeypatch.context() as patch:

        def killed(*_):
            raise KeyboardInterrupt

        patch.setattr(quarantine.system, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            mend_segments(spool)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sorted(sink.taken) == sorted(first + second)
    assert len(quarantined(spool)) == 1


def test_two_who_mend_at_once_do_it_once(home):
    """The second one finds it done, and what is settled in it meanwhile stays settled."""
    sink = ScriptedSink()
    two_segments(home, sink)
    spool, other = Spool(home), Spool(home)
    name = spool.segments()[0]
    spoil(spool.segment_path(name), 4)
    mend_segments(spool)
    mended = spool.segment_path(name).stat().st_ino

    quarantine.mend_segment(other, name)

    assert spool.segment_path(name).stat().st_ino == mended


def test_a_segment_that_nobody_vouches_for_is_put_aside(home, caplog):
    """Without a header anywhere nobody knows whose its events are: said once, in no one's way."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 2)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    spoil(spool.segment_path(name), 4)
    found = spool.segment_path(name).read_bytes()

    for _ in range(3):
        empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert (sink.taken, spool.segments()) == ([], [])
    assert spool.bad_path(name).read_bytes() == found
    assert home_status(home)["damage"]["quarantined_segments"] == 1
    assert caplog.text.count("has no header") == 1
    assert "2 records" in caplog.text
    assert not list(spool.folder.glob(f"{name.writer}.*"))


def test_a_living_writers_segment_is_left_alone(home):
    """Its header may only just be written."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 2)
    spool = Spool(home)
    (name,) = spool.segments()
    spoil(spool.segment_path(name), 4)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert spool.segments() == [name]
    assert quarantined(spool) == []
    journal.close()


def test_a_segment_of_another_version_stays(home):
    """It is visible, and no more: neither mended, nor put aside, nor settled."""
    sink = ScriptedSink()
    two_segments(home, sink)
    spool = Spool(home)
    name = spool.segments()[0]
    header = json.dumps({"version": 2, "what": "nobody knows yet"}).encode()
    content = encode_frame(Kind.HEADER, header) + encode_frame(Kind.EVENT, b"\0")
    spool.segment_path(name).write_bytes(content)

    for _ in range(2):
        empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert spool.segment_path(name).read_bytes() == content
    damage = home_status(home)["damage"]
    assert (damage["unreadable_segments"], damage["quarantined_segments"]) == (1, 0)


def test_calls_that_were_open_survive_a_lost_header(home):
    """A call noted in a spoiled segment and ended nowhere is recorded as interrupted."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    open_call = note_open(journal)
    journal._place.writer._rotate_at = 0
    record(journal)
    let_go(journal)
    spool = Spool(home)
    spoil(spool.segment_path(spool.segments()[0]), 4)

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert open_call in sink.taken
    assert len(sink.taken) == 3


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_stops_the_rest(home, seed):
    """However a segment is spoiled, everybody starts, ends, adds up, and other segments arrive."""
    chance = random.Random(seed)
    sink = ScriptedSink()
    two_segments(home, sink, events=5)
    spool = Spool(home)
    spoiled = spool.segment_path(chance.choice(spool.segments()))
    for _ in range(chance.randrange(1, 6)):
        start = chance.randrange(spoiled.stat().st_size)
        spoil(spoiled, start, chance.choice((1, 8, 300, 2000)))
    spoiled.write_bytes(spoiled.read_bytes()[: chance.randrange(1, spoiled.stat().st_size + 1)])

    for _ in range(2):
        empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert spool.segments() == []
    assert len(sink.taken) == len(set(sink.taken)) >= 5
    row = sink_row(home)
    assert row["recorded"] == row["acked"] == len(sink.taken)


NO_EVENTS = [
    pytest.param(b"\x00\x01", id="no JSON"),
    pytest.param(b"", id="nothing"),
    pytest.param(b"[1, 2]", id="no object"),
    pytest.param(b'{"data": {}}', id="no id"),
    pytest.param(b'{"id": 5}', id="an id that is a number"),
    pytest.param(b'{"id": ""}', id="an empty id"),
    pytest.param(b'{"id": "\xff"}', id="no UTF-8"),
    pytest.param(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b', "id": "deep"}', id="nested too deeply"),
]


@pytest.mark.parametrize("payload", NO_EVENTS)
@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.OPEN, Kind.COUNT])
def test_a_record_that_is_none_is_passed_over(home, kind, payload):
    """With a checksum that holds, among others: counted as damage, for good, and nothing stops."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    ids = record(journal)
    journal._place.writer.append(encode_frame(kind, payload), ())
    ids += record(journal)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    assert home_status(home)["damage"]["unreadable_records"] == 1
    assert open_calls(spool, name.writer) == {}
    books = read_books(spool)
    assert books[debt_of(sink).key].pending == 2
    assert retry_letters(spool).events == {}

    empty(shipper_for(journal_for(home, sink), sink), adopt=True)

    assert sink.taken == ids
    status = home_status(home)
    assert (status["recorded"], status["damage"]["unreadable_records"]) == (2, 1)
    assert spool.segments() == []


def test_a_note_of_an_end_that_is_none_is_passed_over(home):
    """It ends no call, and is counted as damage."""
    journal = journal_for(home)
    open_call = note_open(journal)
    journal._place.writer.append(encode_frame(Kind.CLOSED, b"\xff\xfe"), ())
    writer = journal.writer
    let_go(journal)

    assert list(open_calls(Spool(home), writer)) == [open_call]
    assert home_status(home)["damage"]["unreadable_records"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"time": "yesterday"}, id="no time"),
        pytest.param({"data": 5}, id="no data"),
        pytest.param({"data": {"flags": "odd"}}, id="no flags"),
    ],
)
def test_an_event_that_is_odd_is_still_an_event(home, changes):
    """What has an id is counted, shown and offered to the sink, which may say what is wrong."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    event = make_event()
    odd = json.dumps({**json.loads(encode(event)), **changes}).encode()
    journal.record(event.id, odd)

    status = home_status(home)
    assert (status["recorded"], status["damage"]["unreadable_records"]) == (1, 0)
    (row,) = status["sinks"]
    assert row["pending"] == 1
    let_go(journal)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    assert sink.taken == [event.id]


def test_a_writer_without_any_header_is_never_settled_twice(home):
    """Its open calls cannot be owed to anybody: they are in the segment that is put aside."""
    journal = journal_for(home)
    note_open(journal)
    let_go(journal)
    spool = Spool(home)
    (name,) = spool.segments()
    spoil(spool.segment_path(name), 4)

    mend_segments(spool)

    assert ids_on_disk(home) == []
    assert quarantined(spool) == [SegmentName(name.writer, 0)]
