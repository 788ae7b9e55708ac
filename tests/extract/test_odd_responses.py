"""Usages that come twice or empty, and responses that come several at once."""

from __future__ import annotations

import json

import pytest

from llm_metering.extract import StreamReader, output, read
from llm_metering.token_usage import TokenUsage


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": None if prompt is None else prompt + completion,
    }


def chunk(text=None, *, finish=None, name="chatcmpl-1", **beside):
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": name, "model": "gpt-5-mini", "choices": [choice], **beside}


def last(reported, name="chatcmpl-1"):
    return {"id": name, "model": "gpt-5-mini", "choices": [], "usage": reported}


def completion(name, prompt=10, answer=2, text="Blue."):
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return {"id": name, "choices": [choice], "usage": usage(prompt, answer)}


def fed(*chunks):
    reader = StreamReader()
    for each in chunks:
        reader.feed(each)
    return reader


NULLS = usage(None, None)
ZEROS = usage(0, 0)
FINISHED = chunk("Blue.", finish="stop", usage=usage(10, 2))
GEMINI = {"candidates": [{"content": {"parts": [{"text": "Blue."}]}, "finishReason": "STOP"}]}
STREAMS = [
    pytest.param([FINISHED, last(NULLS)], id="chat, nulls"),
    pytest.param([FINISHED, last(ZEROS)], id="chat, zeros"),
    pytest.param([last(ZEROS), FINISHED], id="chat, zeros first"),
    pytest.param(
        [
            {
                **GEMINI,
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "candidatesTokenCount": 2,
                    "totalTokenCount": 12,
                },
            },
            {"candidates": [], "usageMetadata": {"promptTokenCount": 0, "totalTokenCount": 0}},
        ],
        id="Gemini, zeros",
    ),
    pytest.param(
        [
            {
                "type": "response.in_progress",
                "response": {"id": "1", "usage": {"input_tokens": 10, "output_tokens": 2}},
            },
            {
                "type": "response.completed",
                "response": {"id": "1", "usage": {"input_tokens": 0, "output_tokens": 0}},
            },
        ],
        id="responses, zeros",
    ),
    pytest.param(
        [
            {
                "message": {"content": "Blue."},
                "done": True,
                "prompt_eval_count": 10,
                "eval_count": 2,
            },
            {"message": {"content": ""}, "done": True, "prompt_eval_count": 0, "eval_count": 0},
        ],
        id="Ollama, zeros",
    ),
    pytest.param(
        [
            {"metadata": {"usage": {"inputTokens": 10, "outputTokens": 2}}},
            {"metadata": {"usage": {"inputTokens": 0, "outputTokens": 0}}},
        ],
        id="Converse, zeros",
    ),
    pytest.param(
        [
            {
                "type": "message-end",
                "delta": {"usage": {"tokens": {"input_tokens": 10, "output_tokens": 2}}},
            },
            {"type": "message-end", "delta": {"usage": None}},
        ],
        id="Cohere, null",
    ),
    pytest.param(
        [
            {"type": "message_start", "message": {"id": "1", "usage": {"input_tokens": 10}}},
            {"type": "message_delta", "usage": {"output_tokens": 2}},
            {"type": "message_delta", "usage": {"output_tokens": 0}},
        ],
        id="Anthropic, zero",
    ),
]


@pytest.mark.parametrize("chunks", STREAMS)
def test_an_empty_usage_replaces_no_counts(chunks):
    """A usage of nulls or zeros before or after the real one leaves it as it is."""
    reading = fed(*chunks).reading()

    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (10, 2)


def test_the_counts_stay_final_after_an_empty_usage():
    """What was final before an empty usage is so after it."""
    assert fed(FINISHED, last(NULLS)).reading().is_final
    assert fed(FINISHED, last(ZEROS)).reading().is_final


def test_zeros_at_the_beginning_of_a_stream_that_was_cut():
    """Zeros before a choice has finished are what was not counted yet."""
    reader = fed(last(ZEROS), chunk("Blue."))

    assert (reader.reading().usage, reader.reading().is_final) == (None, False)
    assert not reader.has_ended


def test_zeros_beside_an_answer():
    """Zeros are kept as reported, and flagged where there is a text; an empty answer is not odd."""
    zeros = TokenUsage(input_tokens=0, output_tokens=0, reported_total_tokens=0)
    whole = read(completion("1", 0, 0))
    stream = fed(chunk("Blue.", finish="stop"), last(ZEROS)).reading()

    assert (whole.usage, whole.flags) == (zeros, ("zero_usage",))
    assert (stream.usage, stream.flags) == (zeros, ("zero_usage",))
    assert read(completion("1", 0, 0, text="")).flags == ()
    assert read(completion("1", 3, 0)).flags == ()


BODIES = [completion("1"), completion("2", 100, 20)]


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(BODIES, id="a list"),
        pytest.param(json.dumps(BODIES), id="a JSON array"),
        pytest.param("\n".join(map(json.dumps, BODIES)), id="lines of JSON"),
        pytest.param(
            [
                {"type": "message", "id": name, "content": [], "usage": {"input_tokens": 10}}
                for name in "12"
            ],
            id="messages of Anthropic",
        ),
        pytest.param(
            [{"data": [{"embedding": [1]}], "usage": {"prompt_tokens": 10, "total_tokens": 10}}]
            * 2,
            id="embeddings",
        ),
    ],
)
def test_several_bodies(response):
    """Of several bodies none is billed for the others: they are flagged, without a usage or text."""
    reading = read(response)

    assert (reading.usage, reading.flags) == (None, ("several_responses",))
    assert not output(response)


def test_the_later_state_of_one_body():
    """A body of the same id is the same response, further on."""
    states = [
        {"object": "response", "id": "1", "status": "queued"},
        {
            "object": "response",
            "id": "1",
            "status": "completed",
            "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
        },
    ]

    assert (read(states).usage.total_tokens, read(states).flags) == (4, ())


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [
                *(chunk("a", finish="stop"), last(usage(10, 2))),
                *(chunk("b", finish="stop", name="2"), last(usage(100, 20), name="2")),
            ],
            id="chat",
        ),
        pytest.param(
            [
                {"type": "message_start", "message": {"id": "1", "usage": {"input_tokens": 10}}},
                {"type": "message_delta", "usage": {"output_tokens": 2}},
                {"type": "message_stop"},
                {"type": "message_start", "message": {"id": "2", "usage": {"input_tokens": 10}}},
            ],
            id="Anthropic",
        ),
        pytest.param(
            [
                {"type": "response.created", "response": {"id": "1", "status": "in_progress"}},
                {"type": "response.created", "response": {"id": "2", "status": "in_progress"}},
            ],
            id="responses",
        ),
        pytest.param(
            [{**GEMINI, "responseId": "1"}, {**GEMINI, "responseId": "2"}],
            id="Gemini",
        ),
        pytest.param(
            [{"response": "a", "done": True}, {"response": "b", "done": True}], id="Ollama"
        ),
        pytest.param(
            [
                {"messageStart": {"role": "assistant"}},
                {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 1}}},
                {"messageStart": {"role": "assistant"}},
            ],
            id="Converse",
        ),
        pytest.param(
            [
                {"type": "message-start", "id": "1"},
                {"type": "message-end", "delta": {}},
                {"type": "message-start", "id": "2"},
            ],
            id="Cohere",
        ),
    ],
)
def test_several_responses_in_a_stream(chunks):
    """Another response that begins where one had ended, or under another id, is flagged."""
    assert "several_responses" in fed(*chunks).reading().flags


def test_a_second_message_that_is_cut():
    """The end of one message is not that of the next."""
    start = {"type": "message_start", "message": {"id": "1", "usage": {"input_tokens": 10}}}
    again = {"type": "message_start", "message": {"id": "2", "usage": {"input_tokens": 10}}}
    delta = {"type": "message_delta", "usage": {"output_tokens": 2}}
    reader = fed(start, delta, {"type": "message_stop"}, again)

    assert (reader.has_ended, reader.reading().is_final) == (False, False)


def test_chunks_with_ids_of_their_own():
    """A server that gives each chunk another id sends one response all the same."""
    reader = fed(chunk("a", name="1"), chunk("b", name="2", finish="stop"), last(usage(3, 2), "3"))

    assert reader.reading().flags == ()


def test_a_stream_that_was_cut_is_no_response_under_way():
    """What was streamed of a response that was cut is used, though its last state is `in_progress`."""
    state = {"id": "1", "object": "response", "status": "in_progress"}

    assert fed({"type": "response.created", "response": state}).reading().ending == "completed"
    assert read(state).ending == "unfinished"
