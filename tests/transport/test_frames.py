"""Frames: what was written whole is read, whatever happened to the bytes around it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.transport.frames import HEAD_SIZE, Kind, encode_frame, parse_frames

KINDS = st.sampled_from(list(Kind))
# The journal's payloads are JSON, in which control characters are escaped: no frame's head,
# whose kind is one, can stand in it. So the laws below hold for the journal; for any bytes
# they could not, since a payload might quote a frame.
PAYLOADS = st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=60).map(str.encode)
RECORDS = st.lists(st.tuples(KINDS, PAYLOADS), min_size=1, max_size=8)
# A busy machine is no failure of ours.
unhurried = settings(deadline=None)


def read(data, **options):
    """What is read: kind and payload of each frame."""
    return [(frame.kind, frame.payload) for frame in parse_frames(data, **options).frames]


def places(records):
    """Where each record's frame begins and ends."""
    start = 0
    for kind, payload in records:
        end = start + HEAD_SIZE + len(payload)
        yield start, end, (kind, payload)
        start = end


def in_order(part, whole):
    """Whether `part` is `whole` with some elements left out."""
    rest = iter(whole)
    return all(each in rest for each in part)


@unhurried
@given(RECORDS)
def test_what_was_written_is_read(records):
    """Frames written one behind the other are read as they were."""
    data = b"".join(encode_frame(*record) for record in records)

    parsed = parse_frames(data, 100)

    assert [(frame.kind, frame.payload) for frame in parsed.frames] == records
    assert [(f.start - 100, f.end - 100) for f in parsed.frames] == [p[:2] for p in places(records)]
    assert (parsed.end, parsed.corrupt) == (100 + len(data), 0)


@unhurried
@given(RECORDS, st.data())
def test_damage_loses_what_it_touches_and_nothing_else(records, data):
    """Overwritten bytes cost the frames they lie in; all others are read, and none is made up."""
    content = bytearray(b"".join(encode_frame(*record) for record in records))
    start = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=min(40, len(content) - start)))
    content[start : start + len(junk)] = junk

    found = read(bytes(content))

    untouched = [r for a, b, r in places(records) if b <= start or a >= start + len(junk)]
    assert in_order(untouched, found)
    assert in_order(found, records)


@unhurried
@given(RECORDS, st.data())
def test_a_hole_loses_what_it_touches_and_nothing_else(records, data):
    """Bytes that are missing from the middle cost the frames they were of."""
    content = b"".join(encode_frame(*record) for record in records)
    start = data.draw(st.integers(0, len(content) - 1))
    size = data.draw(st.integers(1, len(content) - start))

    found = read(content[:start] + content[start + size :])

    untouched = [r for a, b, r in places(records) if b <= start or a >= start + size]
    assert in_order(untouched, found)
    assert in_order(found, records)


def test_a_torn_tail_is_left_unread_at_every_byte():
    """Wherever the last write was cut off, the frames before it are read and it is not."""
    first, last = encode_frame(Kind.EVENT, b'{"id":"1"}'), encode_frame(Kind.EVENT, b'{"id":"2"}')

    for cut in range(len(last)):
        for final in (True, False):
            parsed = parse_frames(first + last[:cut], final=final)
            assert [frame.payload for frame in parsed.frames] == [b'{"id":"1"}']
            assert (parsed.end, parsed.corrupt) == (len(first), 0)


@unhurried
@given(RECORDS, st.data())
def test_frames_are_read_in_pieces(records, data):
    """Reading in windows of any size, each from where the last one ended, reads every frame."""
    content = b"".join(encode_frame(*record) for record in records)
    found, position, window = [], 0, data.draw(st.integers(1, 80))

    while position < len(content):
        piece = content[position : position + window]
        final = position + window >= len(content)
        parsed = parse_frames(piece, position, final=final)
        found += [(frame.kind, frame.payload) for frame in parsed.frames]
        window = window if parsed.end > position else 2 * window
        position = parsed.end

    assert found == records


def test_an_incomplete_frame_is_waited_for():
    """A frame whose end is yet to be read is not searched for another one inside it."""
    inner = encode_frame(Kind.EVENT, b"inner")
    outer = encode_frame(Kind.EVENT, inner + b"x" * 100)
    part = outer[: HEAD_SIZE + len(inner) + 10]

    assert read(part, final=False) == []
    assert read(part, final=True) == [(Kind.EVENT, b"inner")]


def test_an_unknown_kind_is_read_over():
    """A note that a later version wrote stands in nobody's way."""
    later = encode_frame(99, b"\x00\xff")  # type: ignore[arg-type]
    event = encode_frame(Kind.EVENT, b"{}")

    assert read(event + later + event) == [
        (Kind.EVENT, b"{}"),
        (99, b"\x00\xff"),
        (Kind.EVENT, b"{}"),
    ]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 64 << 20])
def test_an_absurd_length_is_damage(length):
    """A length that was damaged is not waited for when nothing follows."""
    event = encode_frame(Kind.EVENT, b"{}")
    damaged = bytearray(event)
    damaged[4:8] = length.to_bytes(4, "little")

    parsed = parse_frames(bytes(damaged) + event)

    assert [frame.payload for frame in parsed.frames] == [b"{}"]
    assert parsed.corrupt == len(damaged)
