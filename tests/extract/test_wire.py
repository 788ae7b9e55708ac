"""The bytes of a stream are cut into the same objects, however they arrive."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.extract.wire import Wire

OBJECTS = [
    {"a": 1, "text": 'a "quoted" brace } and { a\nline'},
    {"b": {"deep": [1, {"c": "data:no"}]}},
    {"größe": "naïve ☃ 𝄞", "c": None},
]


def events(*objects, end="\n", gap="\n"):
    lines = [f"data: {json.dumps(each, ensure_ascii=False)}{end}{gap}" for each in objects]
    return "".join(lines)


def cut(content, *pieces):
    wire = Wire()
    found = [each for piece in (content, *pieces) for each in wire.feed(piece)]
    return found, wire.is_done


TEXTS = [
    pytest.param(events(*OBJECTS), id="events"),
    pytest.param(events(*OBJECTS, end="\r\n", gap="\r\n"), id="events with CRLF"),
    pytest.param(events(*OBJECTS, end="\r", gap="\r"), id="events with CR"),
    pytest.param(events(*OBJECTS, gap=""), id="events without empty lines between"),
    pytest.param(events(*OBJECTS).rstrip("\n"), id="a last event without an end"),
    pytest.param(f": comment\n\n{events(*OBJECTS)}: ping\n\n", id="comments"),
    pytest.param(
        "".join(f"event: x\nid: 1\nretry: 5\n{events(each)}" for each in OBJECTS), id="other fields"
    ),
    pytest.param(events(*OBJECTS).replace("data: ", "data:"), id="no space after the colon"),
    pytest.param("\n".join(map(json.dumps, OBJECTS)) + "\n", id="lines of JSON"),
    pytest.param("\r\n".join(map(json.dumps, OBJECTS)), id="lines of JSON with CRLF"),
    pytest.param(json.dumps(OBJECTS), id="an array"),
    pytest.param(json.dumps(OBJECTS, indent=2).replace("},", "}\n,\n"), id="an array that grows"),
    pytest.param("".join(map(json.dumps, OBJECTS)), id="objects without anything between"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_whole(text):
    """In one piece, as text or as bytes."""
    assert cut(text)[0] == OBJECTS
    assert cut(text.encode())[0] == OBJECTS
    assert cut(bytearray(text.encode()))[0] == OBJECTS
    assert cut(memoryview(text.encode()))[0] == OBJECTS


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 64])
def test_in_pieces(text, length):
    """Cut anywhere, in the middle of a character and between CR and LF too."""
    content = text.encode()
    pieces = [content[start : start + length] for start in range(0, len(content), length)]

    assert cut(*pieces)[0] == OBJECTS


@given(st.data())
@pytest.mark.parametrize("text", TEXTS)
def test_cut_anywhere(text, data):
    """Cut at any two places."""
    content = text.encode()
    one, two = sorted(data.draw(st.integers(0, len(content))) for _ in range(2))

    assert cut(content[:one], content[one:two], content[two:])[0] == OBJECTS


@pytest.mark.parametrize("text", [each for each in TEXTS if each.id != "an array that grows"])
def test_lines(text):
    """As lines without their ends, which is what HTTP clients yield."""
    assert cut(*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))[0] == OBJECTS


def test_data_of_several_lines():
    """The `data` lines of one event are one object, as lines and as bytes."""
    text = 'data: {"a": 1,\ndata: "b": 2}\n\n'

    assert cut(text)[0] == [{"a": 1, "b": 2}]
    assert cut(*text.split("\n"))[0] == [{"a": 1, "b": 2}]
    assert cut('data: {"a": 1,\r', 'data: "b": 2}\r\r')[0] == [{"a": 1, "b": 2}]
    assert cut('data: {"a": 1,\r', '\ndata: "b": 2}\r\n')[0] == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(['data: {"a": 1}\n\ndata: [DONE]\n\n'], id="at once"),
        pytest.param(['data: {"a": 1}', "", "data: [DONE]", ""], id="lines"),
        pytest.param(['data: {"a": 1}\n\ndata: [DO', "NE]"], id="cut"),
    ],
)
def test_done(pieces):
    """`[DONE]` says that this was all, and is no object."""
    assert cut(*pieces) == ([{"a": 1}], True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('data: {"a": 1}\n\ndata: {broken}\n\ndata: {"b": 2}\n\n', id="events"),
        pytest.param('{"a": 1}\n{broken}\n{"b": 2}\n', id="lines of JSON"),
        pytest.param('{"a": 1}\n{"cut": "off\n{"b": 2}\n', id="a line that was cut"),
        pytest.param(
            'data: {"a": 1}\n\ndata: 7\n\ndata: hello\n\ndata: {"b": 2}\n\n', id="scalars"
        ),
    ],
)
def test_what_is_no_object(text):
    """What is no JSON object is passed over; what comes after it is not."""
    assert cut(text)[0] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n\n\n", id="empty lines"),
        pytest.param(b"\xff\xfe\x00garbage", id="no text"),
        pytest.param(b"<html>502</html>", id="a page"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 100_000, id="deeper"),
        pytest.param(b'data: {"a": ' + b"1" * 5000 + b"}\n\n", id="a huge number"),
    ],
)
def test_nothing_to_cut(content):
    """What holds no objects yields none, and raises nothing."""
    assert cut(content) == ([], False)


def large(count):
    return {"data": [{"embedding": [0.25] * 20, "index": index} for index in range(count)]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(large(4000)), id="JSON"),
        pytest.param(f"data: {json.dumps(large(4000))}\n\n", id="an event"),
        pytest.param(f"data: {json.dumps(large(4000))}", id="an event without an end"),
        pytest.param(
            "".join(f"data: {line}\n" for line in json.dumps(large(800), indent=1).split("\n"))
            + "\n",
            id="an event of many lines",
        ),
    ],
)
@pytest.mark.parametrize("length", [200, 1000, 4096])
def test_a_large_object_is_not_parsed_over_and_over(text, length, monkeypatch):
    """The parser is given a few times the bytes that came, however many pieces they came in."""
    given_to_parser = []
    decode, raw_decode = json.JSONDecoder.decode, json.JSONDecoder.raw_decode

    def counting_decode(self, text):
        return decode(self, text)

    def counting_raw_decode(self, text, idx=0):
        given_to_parser.append(len(text) - idx)
        return raw_decode(self, text, idx)

    monkeypatch.setattr(json.JSONDecoder, "decode", counting_decode)
    monkeypatch.setattr(json.JSONDecoder, "raw_decode", counting_raw_decode)
    wire = Wire()
    pieces = [text[start : start + length] for start in range(0, len(text), length)]
    found = [each for piece in pieces for each in wire.feed(piece)]
    found += wire.rest()

    assert [len(each["data"]) for each in found] in ([4000], [800])
    assert sum(given_to_parser) < 5 * len(text) + 100 * 16_384


def test_what_was_held_back():
    """The end of a large object is not lost where nothing comes after it."""
    text = json.dumps(large(500))
    wire = Wire()
    found = [
        each for start in range(0, len(text), 700) for each in wire.feed(text[start : start + 700])
    ]

    assert found == []
    assert list(wire.rest()) == [large(500)]
    assert list(wire.rest()) == []
