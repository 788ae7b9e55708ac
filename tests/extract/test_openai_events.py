"""Streams of events, as OpenAI's responses and transcriptions have them."""

from __future__ import annotations

import pytest

from tests.extract.test_stream_reader import counts, fed


def response(status, reported=None):
    return {"id": "resp_1", "object": "response", "status": status, "usage": reported}


def test_events_of_a_response():
    """The events of a response bring its text; the last one its usage."""
    reader = fed(
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "The sky."},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "Bl"},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "ue."},
        {
            "type": "response.output_item.added",
            "output_index": 2,
            "item": {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
    )
    assert (reader.reading().usage, reader.reading().is_final) == (None, False)
    assert reader.reading().response_id == "resp_1"
    assert not reader.has_ended

    reported = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    reader.feed({"type": "response.completed", "response": response("completed", reported)})

    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.has_ended
    assert reader.output().texts == ["Blue."]
    assert reader.output().reasoning == ["The sky."]
    assert reader.output().tool_calls == [("look", "{}")]


@pytest.mark.parametrize(
    ("kind", "status", "ending"),
    [
        pytest.param("response.incomplete", "incomplete", "completed", id="incomplete"),
        pytest.param("response.failed", "failed", "failed", id="failed"),
    ],
)
def test_other_ends_of_a_response(kind, status, ending):
    """A response that was cut or failed reports what it used all the same."""
    reported = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}

    reader = fed({"type": kind, "response": response(status, reported)})

    assert reader.reading().ending == ending
    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.has_ended


def test_events_of_a_transcription():
    """A transcription's text comes in pieces, its usage at the end."""
    reader = fed(
        {"type": "transcript.text.delta", "delta": "Bl"},
        {"type": "transcript.text.delta", "delta": "ue."},
    )
    assert reader.output().texts == ["Blue."]
    assert (reader.reading().usage, reader.has_ended) == (None, False)

    reported = {"type": "tokens", "input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    reader.feed({"type": "transcript.text.done", "text": "Blue.", "usage": reported})
    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.reading().operation == "transcription"
    assert reader.has_ended


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"type": "response.created", "response": 5}, id="a response that is none"),
        pytest.param({"type": "response.output_text.delta", "delta": 5}, id="a piece that is none"),
        pytest.param({"type": "response.output_item.added", "item": []}, id="an item that is none"),
        pytest.param({"type": "response.in_progress", "response": {}}, id="an empty response"),
        pytest.param({"type": "keepalive"}, id="a sign of life"),
    ],
)
def test_odd_events(odd):
    """An event that makes no sense changes nothing, before and between those that do."""
    reported = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    end = {"type": "response.completed", "response": response("completed", reported)}

    reading = fed(
        odd, {"type": "response.output_text.delta", "delta": "Bl"}, odd, end, odd
    ).reading()

    assert (reading.usage, reading.is_final) == (counts(8, 2), True)


def test_a_response_that_ends_without_a_usage():
    """The end of a response that reports no usage makes none final."""
    reader = fed({"type": "response.completed", "response": response("completed")})

    assert (reader.reading().usage, reader.reading().is_final) == (None, False)
    assert reader.has_ended


def test_what_comes_after_the_end():
    """An event that comes late does not take the end back."""
    reported = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    reader = fed({"type": "response.completed", "response": response("completed", reported)})

    reader.feed({"type": "response.in_progress", "response": response("in_progress")})

    assert (reader.reading().usage, reader.reading().is_final) == (counts(8, 2), True)
    assert reader.has_ended
