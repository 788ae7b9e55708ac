"""`Body`: what is kept of an answer as it passes, and what that says of its call."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.extract import StreamReader, read
from llm_metering.taps.body import FIRST, LARGEST, REPORTS, Body
from llm_metering.token_usage import TokenUsage
from tests.extract.recorded import ANSWERS, params

LINES = [each for each in ANSWERS if each.is_stream and "text" in each.body]


def event(fields):
    return f"data: {json.dumps(fields)}\n\n".encode()


def chunk(text="", **fields):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        **fields,
    }


def usage(prompt, completion):
    return {"prompt_tokens": prompt, "completion_tokens": completion}


END = event(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
LAST = event(chunk(choices=[], usage=usage(8, 3)))
CHAT = b"".join([*(event(chunk(text)) for text in "abcde"), END, LAST, b"data: [DONE]\n\n"])


def passed(*pieces, **options):
    body = Body(**options)
    for piece in pieces:
        body.feed(piece)
    body.end()
    return body


@pytest.mark.parametrize("interaction", params(LINES))
def test_what_is_kept_says_the_same(interaction):
    """The few lines that are kept of a stream say of its call what all of them do."""
    whole = StreamReader()
    whole.feed(interaction.text.encode())
    expected = whole.reading()

    found = passed(interaction.text.encode(), has_lines=True).reading()

    if interaction.text.lstrip().startswith("["):
        found = passed(interaction.text.encode()).reading()
    assert found.usage == expected.usage
    assert found.model == expected.model
    assert found.response_id == expected.response_id
    assert found.measures == expected.measures
    assert found.operation == expected.operation
    assert expected.usage is None or found.is_final


@given(st.lists(st.integers(1, len(CHAT)), max_size=20))
def test_pieces_are_cut_anywhere(cuts):
    """Wherever the network cuts a stream, the same is kept of it."""
    places = sorted({0, *cuts, len(CHAT)})
    pieces = [CHAT[start:end] for start, end in itertools.pairwise(places)]

    assert passed(*pieces, has_lines=True).reading() == passed(CHAT, has_lines=True).reading()
    assert passed(*pieces).reading().usage == TokenUsage(input_tokens=8, output_tokens=3)


@given(st.lists(st.binary()), st.booleans())
def test_anything_may_come(pieces, has_lines):
    """Bytes of any kind do no harm."""
    passed(*pieces, has_lines=has_lines).reading()


def test_only_a_few_lines_are_kept():
    """Of a stream that reports its usage with each chunk only the first few and the last are kept."""
    events = [event(chunk("x", usage=usage(8, number))) for number in range(100)]

    body = passed(*events, LAST, has_lines=True)

    assert len(body._first) == FIRST
    assert len(body._reports) == REPORTS
    assert body._last == LAST.splitlines(keepends=True)[0]
    assert body.reading().usage == TokenUsage(input_tokens=8, output_tokens=3)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"usage": {"prompt_tokens": 1}', id="as JSON"),
        pytest.param('data: {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n', id="event"),
        pytest.param("usage", id="the word"),
    ],
)
def test_a_text_about_usage_is_no_usage(text):
    """An answer that speaks of usage is kept no line of, and counts nothing."""
    events = [event(chunk()), event(chunk()), *(event(chunk(text)) for _ in range(9)), END, LAST]

    body = passed(*events, has_lines=True)

    assert body._reports == [LAST.splitlines(keepends=True)[0]]
    assert body.reading().usage == TokenUsage(input_tokens=8, output_tokens=3)


def test_a_null_is_no_report():
    """OpenAI sends `"usage": null` with each chunk; no such line takes a report's place."""
    events = [event(chunk("x", usage=None)) for _ in range(9)]

    body = passed(*events, LAST, has_lines=True)

    assert body._reports == [LAST.splitlines(keepends=True)[0]]


def test_a_whole_body():
    """An answer that is not streamed is read once all of it has come, not before."""
    content = json.dumps(
        {"id": "x", "choices": [{"message": {"content": "a"}}], "usage": usage(8, 3)}
    ).encode()
    body = Body()

    for start in range(0, len(content), 7):
        body.feed(content[start : start + 7])
    early = body.reading()
    body.end()

    assert early is None
    assert body.reading() == read(content)


def test_an_answer_beyond_all_measure():
    """Of an answer, or a line, that is larger than any real one, nothing is held on to."""
    for start, options in ((b'{"a": "', {}), (b'data: {"a": "', {"has_lines": True})):
        body = Body(**options)
        body.feed(start)
        for _ in range(LARGEST // (1 << 20) + 1):
            body.feed(b"x" * (1 << 20))
        body.end()

        assert body.is_lost
        assert body.reading() is None
        assert not body._parts


def test_what_cannot_be_read_is_lost():
    """Pieces that are no bytes give the answer up, and say so."""
    body = Body(has_lines=True)

    body.feed(["no bytes"])

    assert body.is_lost
    assert body.reading() is None


def test_lines_of_json():
    """Ollama sends a line of JSON a chunk, with counts of other names in the last."""
    lines = [json.dumps({"model": "m", "message": {"content": "a"}, "done": False})] * 5
    last = {"model": "m", "message": {"content": ""}, "done": True, "eval_count": 5}
    lines.append(json.dumps({**last, "prompt_eval_count": 2}))

    body = passed(*(f"{line}\n".encode() for line in lines), has_lines=True)

    assert body.reading().usage == TokenUsage(input_tokens=2, output_tokens=5)
