"""A stream is read as it passes: its last usage, its text, and whether it came to its end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.extract import StreamReader
from llm_metering.token_usage import TokenUsage


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def counts(prompt, completion):
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=completion,
        reported_total_tokens=prompt + completion,
    )


def chunk(text=None, *, finish=None, index=0, **beside):
    choice = {"index": index, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "gpt-5-mini", "choices": [choice], **beside}


def last(reported):
    return {"id": "chatcmpl-1", "model": "gpt-5-mini", "choices": [], "usage": reported}


def fed(*chunks):
    reader = StreamReader()
    for each in chunks:
        reader.feed(each)
    return reader


def test_usage_in_a_last_chunk():
    """The usage of a chunk without choices is that of the call; nulls before it are none."""
    reader = fed(chunk("Bl", usage=None), chunk("ue.", usage=None))
    assert (reader.reading().usage, reader.reading().is_final) == (None, False)

    reader.feed(chunk(finish="stop", usage=None))
    assert reader.has_ended
    assert not reader.reading().is_final

    reader.feed(last(usage(8, 2)))
    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.reading().model == "gpt-5-mini"
    assert reader.output().texts == ["Blue."]


def test_usage_with_the_last_choice():
    """The usage that comes with the end of the only choice is that of the call."""
    reader = fed(chunk("Blue."), chunk(finish="stop", usage=usage(8, 2)))

    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.has_ended


def test_usage_so_far():
    """A usage that comes with each piece is of the answer so far: the last, never a sum."""
    reader = fed(chunk("Bl", usage=usage(8, 1)), chunk("ue.", usage=usage(8, 2)))

    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), False)
    assert not reader.has_ended


def test_usage_before_every_choice_has_finished():
    """With several choices, a usage is final only after the last of them."""
    begun = [chunk("Blue."), chunk("Azure.", index=1), chunk(finish="stop", usage=usage(8, 3))]
    reader = fed(*begun)
    assert not reader.reading().is_final
    assert not reader.has_ended

    reader.feed(chunk(finish="stop", index=1, usage=usage(8, 4)))
    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 4), True)
    assert reader.output().texts == ["Blue.", "Azure."]


def test_a_null_does_not_take_a_usage_back():
    """What was reported stays, whatever follows."""
    reader = fed(last(usage(8, 2)), chunk("", usage=None), chunk("", usage={}))

    assert reader.reading().usage == counts(8, 2)


@given(st.permutations(range(4)), st.integers(1, 3))
def test_reports_are_never_summed(order, times):
    """In whatever order and however often usages come, the last is taken, and it alone."""
    reports = [usage(8, n) for n in order for _ in range(times)]

    assert fed(*map(last, reports)).reading().usage == counts(8, order[-1])


def test_names_of_a_stream():
    """The first id and model that are not empty are those of the answer."""
    named = [
        {"id": "", "model": "", "created": 0, "choices": []},
        {**chunk("Blue."), "id": "chatcmpl-1", "created": 1_790_000_000},
        {**chunk(finish="stop", usage=usage(8, 2)), "id": "stub"},
    ]

    reading = fed(*named).reading()

    assert (reading.response_id, reading.model) == ("chatcmpl-1", "gpt-5-mini")
    assert reading.created is not None


def test_an_answer_so_far_beside_each_piece():
    """Where each piece comes with the answer so far, the pieces are taken."""
    reader = fed(
        {"choices": [{"index": 0, "delta": {"content": "Bl"}, "message": {"content": "Bl"}}]},
        {"choices": [{"index": 0, "delta": {"content": "ue."}, "message": {"content": "Blue."}}]},
    )

    assert reader.output().texts == ["Blue."]


def test_tool_calls():
    """The pieces of a tool call's arguments are joined, call by call."""

    def call(index, **function):
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, **function}]}}]}

    reader = fed(
        call(0, id="call_1", function={"name": "look", "arguments": ""}),
        call(0, function={"arguments": '{"at":'}),
        call(0, function={"arguments": '"it"}'}),
        call(1, id="call_2", function={"name": "wait", "arguments": "{}"}),
    )

    assert reader.output().tool_calls == [("look", '{"at":"it"}'), ("wait", "{}")]


def test_tool_calls_that_share_an_index():
    """Google's endpoint gives each call the index 0; their ids keep them apart."""
    calls = [
        {"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"
    ]
    reader = fed(*({"choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in calls))

    assert reader.output().tool_calls == [("a", "{}"), ("b", "{}")]


def test_reasoning():
    """Reasoning that is shown is kept apart from the answer, whatever its name."""
    reader = fed(
        {"choices": [{"index": 0, "delta": {"reasoning_content": "The "}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "sky."}}]},
        chunk("Blue."),
    )

    assert (reader.output().reasoning, reader.output().texts) == (["The sky."], ["Blue."])


def test_reasoning_in_details():
    """Reasoning that comes in details alone is taken from there; beside its text it is a repeat."""
    details = [{"type": "reasoning.text", "text": "The sky."}]
    alone = {"choices": [{"index": 0, "delta": {"reasoning_details": details}}]}
    beside = {
        "choices": [{"index": 0, "delta": {"reasoning": "The sky.", "reasoning_details": details}}]
    }

    assert fed(alone).output().reasoning == fed(beside).output().reasoning == ["The sky."]


def test_parts_of_an_answer():
    """An answer may be a list of parts, its thoughts among them, or be spoken."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "The sky."}]},
        {"type": "text", "text": "Blue."},
    ]
    reader = fed(
        {"choices": [{"index": 0, "delta": {"content": parts}}]},
        {"choices": [{"index": 0, "delta": {"audio": {"transcript": "Azure."}}}]},
        {"choices": [{"index": 0, "delta": {"refusal": "No."}}]},
    )

    assert reader.output().texts == ["Blue.No.", "Azure."]
    assert reader.output().reasoning == ["The sky."]


def test_a_legacy_completion():
    """The pieces of a legacy completion are its choices' own text."""
    reader = fed(
        {"object": "text_completion", "choices": [{"index": 0, "text": "Bl"}]},
        {"object": "text_completion", "choices": [{"index": 0, "text": "ue."}]},
    )

    assert reader.output().texts == ["Blue."]
    assert reader.reading().operation == "text_completion"


def test_done_ends_a_stream():
    """`[DONE]` ends a stream whose choices never said that they had finished."""
    reader = fed(f"data: {json.dumps(chunk('Blue.'))}\n\n")
    assert not reader.has_ended

    reader.feed("data: [DONE]\n\n")
    assert reader.has_ended


WRAPPED = [
    pytest.param(lambda each: {"data": each}, id="Mistral's event"),
    pytest.param(lambda each: {"event": "message", "data": json.dumps(each)}, id="an SSE client's"),
    pytest.param(
        lambda each: {"type": "chunk", "chunk": each, "snapshot": {"choices": []}},
        id="openai's helper",
    ),
    pytest.param(lambda each: {"message": {}, "raw": each, "delta": "Blue."}, id="LlamaIndex"),
    pytest.param(lambda each: f"data: {json.dumps(each)}", id="a line"),
    pytest.param(lambda each: f"data: {json.dumps(each)}\n\n".encode(), id="bytes"),
    pytest.param(json.dumps, id="a line of JSON"),
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_chunks(wrap):
    """Chunks are read through what clients and frameworks wrap them in."""
    chunks = [chunk("Blue."), chunk(finish="stop"), last(usage(8, 2))]

    reader = fed(*map(wrap, chunks))

    assert reader.reading() == fed(*chunks).reading()
    assert reader.output() == fed(*chunks).output()


def test_an_answer_at_once():
    """A server that was asked to stream and answers with a whole body is read as well."""
    body = {
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Blue."}]}],
        "usage": {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10},
    }

    reader = fed(body)

    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.output().texts == ["Blue."]
    assert reader.has_ended


class Unreadable:
    """An object of which no attribute can be read."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(None, id="nothing"),
        pytest.param(object(), id="an object"),
        pytest.param(Unreadable(), id="an object that cannot be read"),
        pytest.param({}, id="an empty chunk"),
        pytest.param({"choices": [{"index": [], "delta": 5}]}, id="an index that is none"),
        pytest.param({"choices": [None, 5, "x"]}, id="choices that are none"),
        pytest.param({"type": ["response.created"]}, id="a type that is none"),
        pytest.param({"type": "response.output_text.delta"}.keys(), id="keys"),
        pytest.param({"data": "{broken"}, id="data that is no JSON"),
        pytest.param(b"\xff\x00", id="bytes"),
        pytest.param(7, id="a number"),
    ],
)
def test_odd_chunks(odd):
    """A chunk that makes no sense changes nothing, before and between those that do."""
    expected = fed(chunk("Blue.", finish="stop"), last(usage(8, 2)))
    reader = fed(odd, chunk("Blue.", finish="stop"), odd, last(usage(8, 2)), odd)

    assert reader.reading().usage == expected.reading().usage
    assert reader.output().texts[0] == "Blue."


def test_an_unknown_stream():
    """A stream in no known shape says so, with the names of the keys of its first chunk."""
    reading = fed({"tokens_out": 5, "what the user said": 1}, {"more": 1}).reading()

    assert (reading.shape, reading.usage, reading.is_final) == ("unknown", None, False)
    assert reading.flags == ("unknown_usage:tokens_out",)


def test_an_empty_stream():
    """A stream of which nothing came has nothing odd about it."""
    reading = StreamReader().reading()

    assert (reading.shape, reading.usage, reading.is_final, reading.flags) == (
        *("unknown", None, False),
        (),
    )
    assert not StreamReader().output()
    assert not StreamReader().has_ended
